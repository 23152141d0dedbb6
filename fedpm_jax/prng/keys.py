"""Randomness as a function of (seed, purpose, round, client), never carried.

Every random number of a run is drawn from a key that is derived here, so a
resumed run continues bit for bit and a remote client computes its own keys
from (seed, round, client) alone.  Nothing random is ever checkpointed.

The generator is Threefry-4x32 (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011): exact under `vmap`, the same on CPU, GPU and TPU,
and eight times faster here than JAX's default Threefry-2x32.  The named
implementation is part of the file formats; tests/prng/test_keys.py pins its
stream.  Keys are derived on the host (`prng.threefry`).  Numbers are drawn on
the device: weights and initial scores by `jax.random`, masks from
`prng.dithers`.
"""

import enum

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax.prng import threefry

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
  EVALUATE = 7  # sampled networks that are evaluated; `client` counts them
  FINAL = 8  # the mask of the exported model
  VALIDATION = 9  # which training examples are held out
  DROPOUT = 10  # folded into the key of a local step


def words(
  seed: int,
  purpose: Purpose,
  *,
  round_idx: int = 0,
  client: int | np.ndarray = 0,
) -> np.ndarray:
  """The key of (seed, purpose, round, client), on the host.

  Args:
    seed: the experiment's, an integer in [0, 2^32).
    purpose: what the key is for.
    round_idx: 0-based round.
    client: client ids in [0, M): one, or an integer array `[...]`.

  Returns:
    uint32 `[..., 4]`; `wrap` turns them into typed keys.
  """
  # The order of the three is part of the formats.
  key = threefry.fold_in(threefry.seed(seed), int(purpose))
  return threefry.fold_in(threefry.fold_in(key, round_idx), client)


def wrap(words: np.ndarray | jax.Array) -> jax.Array:
  """Words uint32 `[..., 4]` as typed keys `[...]`, in or outside a jit."""
  return jax.random.wrap_key_data(jnp.asarray(words), impl=IMPLEMENTATION)


def derive(
  seed: int,
  purpose: Purpose,
  *,
  round_idx: int = 0,
  client: int | np.ndarray = 0,
) -> jax.Array:
  """The typed key of (seed, purpose, round, client).

  Args:
    seed: as in `words`; so are the others.
    purpose: what the key is for.
    round_idx: 0-based round.
    client: client ids.

  Returns:
    Typed keys, of the shape of `client`.
  """
  return wrap(words(seed, purpose, round_idx=round_idx, client=client))


def host_rng(
  seed: int, purpose: Purpose, *, round_idx: int = 0, client: int = 0
) -> np.random.Generator:
  """The NumPy generator of (seed, purpose, round, client), for host-side work.

  Partitions, cohorts and batch plans are integers that the host makes before a
  round starts, with this generator.  Everything on the device uses `derive`.
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
