"""ONE ROUND: the jitted local training, the wire, the jitted aggregation.

    broadcast      the server's payload, encoded, metered, decoded
    clients_step   one jit: all K clients train and compress; symbols leave the
                   device packed
    wire           K messages, encoded, metered, decoded
    server_step    one jit: only what was decoded is aggregated

The cohort is spread over the devices of a mesh axis `clients` (`jax.shard_map`,
the successor of pmap); inside a device, chunks of clients follow one another
(`lax.map`), and inside a chunk they are vectorised (`vmap`).  Memory is set by
the chunk, not by the cohort.

Dimensions: M clients in the population, K in the cohort, S local steps, B
batch, d parameters.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax import bits, keys, local, threefry
from fedpm_jax.exchange import Exchange, Known, Method

P = jax.sharding.PartitionSpec


class State(NamedTuple):
  """All that is carried from round to round, and checkpointed.

  Attributes:
    server: the algorithm's server state.
    clients: the M clients' states, stacked `[M, ...]`; empty where the
      algorithm keeps none.
    known: an `exchange.Known`, which theta clients have; empty where the
      downlink's codec does not ask.
  """

  server: Any
  clients: Any
  known: Any


class Cohort(NamedTuple):
  """The clients of one round and what they train on.

  Attributes:
    ids: int32 `[K]`.
    indices: int32 `[K, S, B]` into the training set.
    mask: bool `[K, S, B]`, False on padding.
  """

  ids: np.ndarray
  indices: np.ndarray
  mask: np.ndarray


def make_mesh(clients_per_round: int, *, max_devices: int = 0) -> Any:
  """A mesh of one axis, `clients`, over as many devices as help.

  Ten clients on eight devices take two turns, and so they do on five: the
  smallest number of devices with the fewest turns is used.

  Args:
    clients_per_round: K.
    max_devices: at most so many; 0 for all that there are.
  """
  available = jax.devices()[: max_devices or None]
  turns = -(-clients_per_round // len(available))
  used = -(-clients_per_round // turns)
  return jax.sharding.Mesh(np.array(available[:used]), ('clients',))


class Members(NamedTuple):
  """The cohort as the device gets it, one row a client; see `Engine.members`.

  Attributes:
    indices: int32 `[K, S, B]`.
    mask: bool `[K, S, B]`.
    step_keys: uint32 `[K, S, 4]`, words of a key for each local step.
    uplink_keys: uint32 `[K, 4]`, of the key that the compressor gets.
  """

  indices: np.ndarray
  mask: np.ndarray
  step_keys: np.ndarray
  uplink_keys: np.ndarray


def make_clients_step(
  method: Method, *, mesh: jax.sharding.Mesh, chunk: int
) -> Callable[..., tuple[jax.Array, Any, local.Sums]]:
  """The jitted local training of a whole cohort.

  Args:
    method: what clients train and how they compress it.
    mesh: see `make_mesh`.
    chunk: how many clients of a device are vectorised; 1 trains them one after
      another, which a CPU's caches like best.

  Returns:
    (payload `[d]`, clients `[K, ...]`, images, labels, Members)
    -> (symbols `[K, n]` or, bits, packed uint8 `[K, ceil(n/8)]`; new client
    states `[K, ...]`; Sums `[K]`).  K must be a multiple of the mesh's size:
    see `_padded`.
  """

  def one_client(pair, shared):
    member, client_state = pair
    payload, received, images, labels = shared
    update, client_state, info = method.algorithm.client_update(
      received,
      local.ClientBatches(images, labels, member.indices, member.mask),
      client_state,
      keys.wrap(member.step_keys),
    )
    symbols = method.compressor.compress(
      keys.wrap(member.uplink_keys), update, payload
    )
    if symbols.dtype == jnp.bool_:
      symbols = jnp.packbits(symbols)
    return symbols, client_state, info

  def one_device(pairs, shared):
    payload, *data = shared
    received = method.algorithm.receive(payload)
    train = lambda pair: one_client(pair, (payload, received, *data))
    return lax.map(train, pairs, batch_size=chunk if chunk > 1 else None)

  sharded = jax.shard_map(
    one_device,
    mesh=mesh,
    in_specs=(P('clients'), P()),
    out_specs=P('clients'),
    check_vma=False,
  )

  @functools.partial(jax.jit, compiler_options=method.network.compiler_options)
  def clients_step(payload, clients, images, labels, members):
    return sharded((members, clients), (payload, images, labels))

  return clients_step


def make_server_step(method: Method) -> Callable[..., tuple[Any, Any]]:
  """The jitted aggregation of what arrived; the old state is donated.

  Returns:
    (server_state, payload `[d]`, symbols as `clients_step` gave them, the
    clients' uplink_keys, round_idx) -> (server_state, info).
  """
  compressor = method.compressor

  def one_update(key_words, symbols, payload):
    if compressor.symbols == 'mask':
      count = sum(compressor.sizes)
      symbols = jnp.unpackbits(symbols, count=count).astype(jnp.bool_)
    key = keys.wrap(key_words)
    return compressor.decompress(key, symbols, payload)

  def server_step(server_state, payload, symbols, uplink_keys, round_idx):
    # One client after another: what grows with the cohort are packed masks.
    def add(total, client):
      update = one_update(*client, payload)
      return total + update.astype(total.dtype), None

    update = jax.eval_shape(one_update, uplink_keys[0], symbols[0], payload)
    counted = not jnp.issubdtype(update.dtype, jnp.floating)
    start = jnp.zeros(update.shape, jnp.int32 if counted else jnp.float32)
    total, _ = lax.scan(add, start, (uplink_keys, symbols))
    return method.algorithm.server_update(
      server_state, total, len(symbols), round_idx
    )

  return jax.jit(server_step, donate_argnums=0)


class Engine:
  """Runs rounds of one method on one data set; holds no state of the run."""

  def __init__(
    self,
    method: Method,
    *,
    seed: int,
    num_clients: int,
    images: np.ndarray,
    labels: np.ndarray,
    mesh: jax.sharding.Mesh,
    chunk: int = 1,
  ):
    """Compiles nothing yet, but puts the data on the devices.

    Args:
      method: see `Method`.
      seed: the experiment's.
      num_clients: M.
      images: uint8 `[N, H, W, C]`, the whole training set.
      labels: int32 `[N]`.
      mesh: see `make_mesh`.
      chunk: see `make_clients_step`.
    """
    self.method = method
    self.mesh = mesh
    self._seed = seed
    self._num_clients = num_clients
    self._replicated = jax.NamedSharding(mesh, P())
    self._by_client = jax.NamedSharding(mesh, P('clients'))
    self.data = jax.device_put((images, labels), self._replicated)
    self.clients_step = make_clients_step(method, mesh=mesh, chunk=chunk)
    self.server_step = make_server_step(method)
    self.exchange = Exchange(method, seed=seed, server_step=self.server_step)

  def init(self) -> State:
    """The state before the first round, a function of the seed."""
    key = keys.derive(self._seed, keys.Purpose.SCORES)
    server, client = jax.jit(self.method.algorithm.init)(key)
    stack = lambda leaf: jnp.repeat(leaf[None], self._num_clients, axis=0)
    known = ()
    if self.method.downlink == 'theta_news':
      # A copy: the server's own is donated.
      q = jnp.copy(self.method.algorithm.broadcast(server))
      known = Known(q, jnp.ones(self._num_clients, jnp.bool_))
    return State(server, jax.tree.map(stack, client), known)

  def run(
    self,
    state: State,
    cohort: Cohort,
    round_idx: int,
    *,
    archive: Callable[[bits.Archived], None] | None = None,
  ) -> tuple[State, dict[str, float]]:
    """One round.

    Args:
      state: is consumed: its buffers are donated.
      cohort: who takes part, on which examples.
      round_idx: 0-based.
      archive: is given what crossed the wire, if it was masks with dithers.

    Returns:
      The next state and the round's metrics, named as in `metrics.UNITS`.

    Raises:
      FloatingPointError: a client's loss is not finite.
      WireError: a message did not survive its coding, which is a bug.
    """
    start = time.perf_counter()
    count, size = len(cohort.ids), self.method.network.layout.num_parameters
    known = jax.device_get(state.known)
    payload, downlink_bytes = self.exchange.downlink(
      np.asarray(self.method.algorithm.broadcast(state.server)),
      known,
      state.server,
      cohort.ids,
      round_idx,
    )
    broadcast_done = time.perf_counter()
    padded = _padded(cohort, self.mesh.size)
    members = self.members(padded, round_idx)
    clients = jax.tree.map(lambda leaf: leaf[padded.ids], state.clients)
    symbols, clients, sums = self.clients_step(
      jax.device_put(payload, self._replicated),
      *jax.device_put((clients,), self._by_client),
      *self.data,
      jax.device_put(members, self._by_client),
    )
    symbols, sums = jax.device_get((symbols, sums))
    clients_done = time.perf_counter()
    if not np.isfinite(sums.loss[:count]).all():
      bad = cohort.ids[~np.isfinite(sums.loss[:count])].tolist()
      raise FloatingPointError(
        f'Round {round_idx}: the training loss of clients {bad} is not'
        ' finite. Lower config.optimizer.learning_rate (of dense methods also'
        ' server_learning_rate), or see config.weights.gain.'
      )
    received = self.exchange.uplink(
      symbols[:count], payload, cohort.ids, round_idx
    )
    wire_done = time.perf_counter()
    del symbols  # With many clients they are large, and arrived is what counts.
    if archive and self.method.compressor.dithered:
      before = known or Known(payload, np.zeros(self._num_clients, np.bool_))
      sent = received.symbols
      archive(bits.Archived(round_idx, cohort.ids, payload, sent, *before))
    server, info = self.server_step(
      state.server,
      jnp.asarray(payload),
      received.symbols,
      members.uplink_keys[:count],
      np.int32(round_idx),
    )
    keep = lambda old, new: old.at[cohort.ids].set(new[:count])
    if known:
      known = Known(payload, np.isin(np.arange(self._num_clients), cohort.ids))
    state = State(server, jax.tree.map(keep, state.clients, clients), known)
    info = jax.device_get(info)._asdict()
    if not np.isfinite(list(info.values())).all():
      raise FloatingPointError(
        f'Round {round_idx}: the server reports {info}. Lower'
        ' config.optimizer.learning_rate or server_learning_rate.'
      )
    examples = int(sums.examples[:count].sum())
    row = {
      'round_idx': round_idx,
      'train/loss': float(sums.loss[:count].sum()) / examples,
      'train/accuracy': int(sums.correct[:count].sum()) / examples,
      'uplink/bytes': sum(received.num_bytes),
      'uplink/bpp_wire': 8 * sum(received.num_bytes) / (count * size),
      'downlink/bytes': sum(downlink_bytes),
      'downlink/bpp_wire': 8 * sum(downlink_bytes) / (count * size),
    }
    if received.densities:
      row['uplink/bpp_entropy'] = float(np.mean(received.estimates))
      row['mask/density'] = float(np.mean(received.densities))
    row |= {f'server/{name}': float(x) for name, x in info.items()}
    row['time/round_s'] = time.perf_counter() - start
    row['time/clients_s'] = clients_done - broadcast_done
    row['time/wire_s'] = (broadcast_done - start) + (wire_done - clients_done)
    return state, row

  def members(self, cohort: Cohort, round_idx: int) -> Members:
    """The cohort with its keys, which follow from (seed, round, client)."""
    key = functools.partial(keys.words, self._seed, round_idx=round_idx)
    steps = np.arange(cohort.mask.shape[1])
    local_keys = key(purpose=keys.Purpose.LOCAL, client=cohort.ids)
    return Members(
      cohort.indices,
      cohort.mask,
      step_keys=threefry.fold_in(local_keys[:, None], steps),
      uplink_keys=key(purpose=keys.Purpose.UPLINK, client=cohort.ids),
    )


def _padded(cohort: Cohort, multiple: int) -> Cohort:
  """The cohort with idle clients added, so that every device has as many.

  An idle client has no example: it trains nothing and its symbols are dropped.
  """
  missing = -len(cohort.ids) % multiple
  pad = lambda x: np.pad(x, [(0, missing), *[(0, 0)] * (x.ndim - 1)])
  return Cohort(*map(pad, cohort))
