"""A cohort's local training, turn by turn: the jitted `clients_step`.

A cohort is spread over the devices of a mesh axis `clients` (`jax.shard_map`,
the successor of pmap); inside a device, chunks of clients follow one another
(`lax.map`), and inside a chunk they are vectorised (`vmap`).  It takes turns:
of all clients at once where their symbols fit into memory; else, and where the
host has nothing else to do meanwhile, one turn trains while the host codes the
messages of the last one.  Memory is set by chunk and turn and not by the cohort,
the states aside that clients of some algorithms keep.

Dimensions: K clients in the cohort, T in a turn, N examples, S local steps,
B batch, d parameters.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax import codecs
from fedpm_jax.algorithms import local
from fedpm_jax.compressors.base import Compressor
from fedpm_jax.prng import keys, threefry
from fedpm_jax.protocol.exchange import Method

P = jax.sharding.PartitionSpec

_TURN_BYTES = 2**29  # of symbols, on a host


class Cohort(NamedTuple):
  """The clients of one round and what they train on.

  Attributes:
    ids: int32 `[K]`.
    indices: int32 `[K, S, B]` into the training set.
    valid: bool `[K, S, B]`, False on padding.
  """

  ids: np.ndarray
  indices: np.ndarray
  valid: np.ndarray


def make_mesh(clients_per_round: int, *, max_devices: int = 0) -> Any:
  """A mesh of one axis, `clients`, over as many devices as help.

  Of ten clients on eight devices, some train two of them one after the other,
  and so do all of five: as few devices are used as are no slower.

  Args:
    clients_per_round: K.
    max_devices: at most so many; 0 for all that there are.
  """
  available = jax.devices()[: max_devices or None]
  of_a_device = -(-clients_per_round // len(available))
  used = -(-clients_per_round // of_a_device)
  return jax.sharding.Mesh(np.array(available[:used]), ('clients',))


class Members(NamedTuple):
  """Clients as the device gets them, one a row; see `Trainer.members`.

  Attributes:
    indices: int32 `[K, S, B]`.
    valid: bool `[K, S, B]`.
    step_keys: uint32 `[K, S, 4]`, words of a key for each local step.
    uplink_keys: uint32 `[K, 4]`, of the key that the compressor gets.
  """

  indices: np.ndarray
  valid: np.ndarray
  step_keys: np.ndarray
  uplink_keys: np.ndarray


class Shared(NamedTuple):
  """What all clients of a round train with, on every device.

  Attributes:
    payload: `[d]`, what they were sent.
    received: what the algorithm makes of it.
    images: uint8 `[N, H, W, C]`, the whole training set.
    labels: int32 `[N]`.
  """

  payload: jax.Array
  received: Any
  images: jax.Array
  labels: jax.Array


class Turn(NamedTuple):
  """What a turn's clients leave behind.

  Attributes:
    symbols: `[T, n]` or, bits, packed uint8 `[T, ceil(n / 8)]`.
    clients: their new states, `[T, ...]`.
    sums: `local.Sums` `[T]`.
  """

  symbols: jax.Array
  clients: Any
  sums: local.Sums


def make_receive(
  method: Method, mesh: jax.sharding.Mesh
) -> Callable[[jax.Array], Any]:
  """The algorithm's `receive`, jitted: every device works it out for itself."""
  everywhere = jax.shard_map(
    method.algorithm.receive,
    mesh=mesh,
    in_specs=P(),
    out_specs=P(),
    check_vma=False,
  )
  return jax.jit(everywhere, compiler_options=method.network.compiler_options)


def make_clients_step(
  method: Method, mesh: jax.sharding.Mesh, *, chunk: int
) -> Callable[..., Turn]:
  """The jitted local training of a turn of clients.

  Args:
    method: see `Trainer`.
    mesh: see `make_mesh`.
    chunk: how many clients of a device are vectorised; 1 trains them one after
      another, which a CPU's caches like best.

  Returns:
    (Shared, Members, client states `[T, ...]`) -> Turn.  T must be a multiple
    of the mesh's size: see `_padded`.
  """

  def one_client(pair, shared):
    member, client_state = pair
    update, client_state, sums = method.algorithm.client_update(
      shared.received,
      local.ClientBatches(
        shared.images, shared.labels, member.indices, member.valid
      ),
      client_state,
      keys.wrap(member.step_keys),
    )
    symbols = method.compressor.compress(
      keys.wrap(member.uplink_keys), update, shared.payload
    )
    if symbols.dtype == jnp.bool_:
      symbols = jnp.packbits(symbols)
    return Turn(symbols, client_state, sums)

  def one_device(pairs, shared):
    train = functools.partial(one_client, shared=shared)
    return lax.map(train, pairs, batch_size=chunk if chunk > 1 else None)

  sharded = jax.shard_map(
    one_device,
    mesh=mesh,
    in_specs=(P('clients'), P()),
    out_specs=P('clients'),
    check_vma=False,
  )

  @functools.partial(jax.jit, compiler_options=method.network.compiler_options)
  def clients_step(shared, members, clients):
    return sharded((members, clients), shared)

  return clients_step


def default_turn(compressor: Compressor, chunk: int, devices: int) -> int:
  """How many clients a device trains before the host has their symbols.

  On a CPU training leaves the host no time for anything else, and short turns
  only wait for one another.  Elsewhere the host codes messages meanwhile; where
  it needs the device's guesses (`Exchange.guesses`), those of two clients a turn.

  Args:
    compressor: whose symbols wait for the end of the turn.
    chunk: see `make_clients_step`.
    devices: that train; those of a CPU share its memory.
  """
  if jax.default_backend() != 'cpu':
    return chunk
  num_bytes = sum(compressor.sizes)
  if compressor.symbols == 'mask':
    num_bytes = -(-num_bytes // 8)  # They are packed.
  else:
    num_bytes *= codecs.base.DTYPES[compressor.symbols].itemsize
  return max(_TURN_BYTES // devices // num_bytes, chunk)


class Trainer:
  """Trains cohorts of one method on one data set; holds no state of the run."""

  def __init__(
    self,
    method: Method,
    *,
    seed: int,
    images: np.ndarray,
    labels: np.ndarray,
    mesh: jax.sharding.Mesh,
    chunk: int = 1,
    turn: int = 0,
  ):
    """Compiles nothing yet, but puts the data on the devices.

    Args:
      method: what clients train and how they compress it.
      seed: the experiment's.
      images: uint8 `[N, H, W, C]`, the whole training set.
      labels: int32 `[N]`.
      mesh: see `make_mesh`.
      chunk: see `make_clients_step`.
      turn: how many clients a device trains in a turn, at most; 0 for
        `default_turn`.
    """
    self._seed = seed
    self._devices = mesh.size
    self._turn = turn or default_turn(method.compressor, chunk, mesh.size)
    self._replicated = jax.NamedSharding(mesh, P())
    self._by_client = jax.NamedSharding(mesh, P('clients'))
    self.data = jax.device_put((images, labels), self._replicated)
    self.receive = make_receive(method, mesh)
    self.clients_step = make_clients_step(method, mesh, chunk=chunk)

  def members(self, cohort: Cohort, round_idx: int) -> Members:
    """The cohort with its keys, which follow from (seed, round, client)."""
    key = functools.partial(keys.words, self._seed, round_idx=round_idx)
    steps = np.arange(cohort.valid.shape[1])
    local_keys = key(purpose=keys.Purpose.LOCAL, client=cohort.ids)
    return Members(
      cohort.indices,
      cohort.valid,
      step_keys=threefry.fold_in(local_keys[:, None], steps),
      uplink_keys=key(purpose=keys.Purpose.UPLINK, client=cohort.ids),
    )

  def turns(
    self, payload: np.ndarray, members: Members, clients: Any, ids: np.ndarray
  ) -> Iterator[Turn]:
    """The cohort's turns, in order; the next one trains when one is given.

    Args:
      payload: `[d]`, what the cohort was sent.
      members: the cohort.
      clients: the states of all M clients, `[M, ...]`.
      ids: int32 `[K]`, whose turn it is.

    Yields:
      Turns of the same T; in the last one the cohort may end before the turn.
    """
    payload = jax.device_put(payload, self._replicated)
    shared = Shared(payload, self.receive(payload), *self.data)
    devices = self._devices
    turns = -(-len(ids) // (devices * self._turn))
    size = devices * -(-len(ids) // (devices * turns))
    padded = jax.tree.map(lambda x: _padded(x, size), (members, ids))

    def start(turn):
      part = lambda x: x[turn * size : (turn + 1) * size]
      members, ids = jax.tree.map(part, padded)
      states = jax.tree.map(lambda leaf: leaf[ids], clients)
      return self.clients_step(
        shared, *jax.device_put((members, states), self._by_client)
      )

    running = start(0)
    for turn in range(1, turns):
      following = start(turn)
      yield running
      running = following
    yield running


def _padded(rows: np.ndarray, multiple: int) -> np.ndarray:
  """Rows of zeros added, up to a multiple: idle clients, without an example.

  They train nothing and nobody asks for their symbols.
  """
  missing = -len(rows) % multiple
  return np.pad(rows, [(0, missing), *[(0, 0)] * (rows.ndim - 1)])
