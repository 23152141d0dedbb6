"""Which examples a client visits in which step: plans of static shape.

Compiled code wants the same shape every round, but clients hold different
numbers of examples.  So every plan is as long as the largest client of the
population needs, and `valid` says which places hold an example.

Legend: K clients in the round's cohort, S local steps, B batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedpm_jax.prng import keys


class Plan(NamedTuple):
  """Examples by step; a place that is not valid holds index 0, but no example.

  Attributes:
    indices: int32 `[K, S, B]` into the arrays of the data set.
    valid: bool `[K, S, B]`.
  """

  indices: np.ndarray
  valid: np.ndarray


def steps_per_round(
  parts: Sequence[np.ndarray], *, epochs: int, batch_size: int
) -> int:
  """S, the steps of a round: epochs * ceil(n_max / B).

  Args:
    parts: indices of every client of the population, M arrays.
    epochs: local epochs, at least 1.
    batch_size: B, at least 1.

  Returns:
    S, which does not depend on who takes part.

  Raises:
    ValueError: no client has an example, or a number is below 1.
  """
  if epochs < 1 or batch_size < 1:
    raise ValueError(
      'epochs and batch_size must be at least 1, got'
      f' {epochs} and {batch_size}.'
    )
  largest = max((len(part) for part in parts), default=0)
  if largest == 0:
    raise ValueError('No client holds any example.')
  return epochs * _ceil_div(largest, batch_size)


def plan(
  parts: Sequence[np.ndarray],
  cohort_ids: np.ndarray,
  *,
  seed: int,
  round_idx: int,
  epochs: int,
  batch_size: int,
) -> Plan:
  """The batches of every client of the cohort in one round.

  In each epoch a client visits each of its examples once, in a new order, cut
  into batches.  The last batch is padded, and a client smaller than the largest
  ends the epoch with empty steps.  The order is a function of (seed, round,
  client) alone; it does not depend on who else takes part.

  Args:
    parts: indices of every client of the population, M arrays.
    cohort_ids: ids in [0, M), `[K]`.
    seed: the experiment's seed.
    round_idx: 0-based round.
    epochs: local epochs.
    batch_size: B.

  Returns:
    The plan, `[K, S, B]`.

  Raises:
    ValueError: an id is outside [0, M), or as `steps_per_round`.
  """
  steps = steps_per_round(parts, epochs=epochs, batch_size=batch_size)
  ids = np.asarray(cohort_ids)
  outside = ids[(ids < 0) | (ids >= len(parts))]
  if len(outside):
    raise ValueError(
      f'Client ids must lie in [0, {len(parts)}), got {outside}.'
    )
  # An epoch's places lie in one row, so that a permutation is one assignment;
  # the row is cut into steps at the end.
  places = steps // epochs * batch_size
  indices = np.zeros((len(ids), epochs, places), np.int32)
  # Each client has a generator of its own, so that its order does not depend on
  # who else takes part.
  for row, client in zip(indices, ids.tolist(), strict=True):
    own = parts[client]
    rng = keys.host_rng(
      seed, keys.Purpose.BATCHES, round_idx=round_idx, client=client
    )
    for epoch in range(epochs):
      row[epoch, : len(own)] = rng.permutation(own)
  held = np.array([len(parts[client]) for client in ids], np.int64)
  valid = np.arange(places) < held[:, None, None]
  shape = (len(ids), steps, batch_size)
  return Plan(
    indices.reshape(shape),
    np.broadcast_to(valid, indices.shape).reshape(shape),
  )


def _ceil_div(numerator: int, denominator: int) -> int:
  return -(-numerator // denominator)
