"""ONE ROUND: the jitted local training, the wire, the jitted aggregation.

    broadcast      the server's payload, encoded, metered, decoded while the
                   clients train with it: what they decode is the same
    clients_step   one jit: a turn of clients trains and compresses; symbols
                   leave the device packed
    wire           K messages, encoded, metered, decoded
    aggregation    only what was decoded is added up; then one update

Dimensions: M clients in the population, K in the cohort, d parameters.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax.prng import keys
from fedpm_jax.protocol import aggregate
from fedpm_jax.protocol.exchange import Exchange, Known, Method, estimated_bpp
from fedpm_jax.simulation.cohort import Cohort, Trainer, make_mesh

__all__ = ['Cohort', 'Engine', 'Method', 'State', 'make_mesh']


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


class Archived(NamedTuple):
  """A round's symbols, and what both ends knew.

  Attributes:
    round_idx: 0-based.
    ids: int32 `[K]`.
    q: uint16 `[d]`, what the round started from.
    symbols: uint8 `[K, ceil(d / 8)]`, packed masks.
    known_q: uint16 `[d]`, the theta of the round before.
    known_members: bool `[M]`, who had it; nobody where the run did not ask.
  """

  round_idx: int
  ids: np.ndarray
  q: np.ndarray
  symbols: np.ndarray
  known_q: np.ndarray
  known_members: np.ndarray


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
    turn: int = 0,
  ):
    """Compiles nothing yet, but puts the data on the devices.

    Args:
      method: see `Method`.
      seed: the experiment's.
      num_clients: M.
      images: uint8 `[N, H, W, C]`, the whole training set.
      labels: int32 `[N]`.
      mesh: see `make_mesh`.
      chunk: see `turns.make_clients_step`.
      turn: see `turns.Trainer`.
    """
    self.method = method
    self.mesh = mesh
    self._seed = seed
    self._num_clients = num_clients
    self.trainer = Trainer(
      method,
      seed=seed,
      images=images,
      labels=labels,
      mesh=mesh,
      chunk=chunk,
      turn=turn,
    )
    self.aggregation = aggregate.make(
      method.algorithm,
      method.compressor,
      method.network.layout.num_parameters,
    )
    self.exchange = Exchange(method, seed=seed, aggregation=self.aggregation)

  @property
  def data(self) -> tuple[jax.Array, jax.Array]:
    """Images and labels, as they lie on the devices."""
    return self.trainer.data

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
    archive: Callable[[Archived], None] | None = None,
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
    # A copy: the server's own is donated.
    payload = np.array(self.method.algorithm.broadcast(state.server))
    broadcast = self.exchange.downlink(
      payload, known, state.server, cohort.ids, round_idx
    )
    training_from = trained_by = time.perf_counter()
    members = self.trainer.members(cohort, round_idx)
    states, sums = [], []

    def arriving():
      nonlocal trained_by
      for turn in self.trainer.turns(
        payload, members, state.clients, cohort.ids
      ):
        symbols = _rows(turn.symbols)
        seen = len(states) * len(symbols)
        states.append(turn.clients)
        sums.append(jax.device_get(turn.sums))
        del turn  # Symbols are large; each goes when its message is coded.
        trained_by = time.perf_counter()
        _check_losses(sums[-1].loss, cohort.ids[seen:], round_idx)
        while symbols:
          yield symbols.pop(0)

    total, on_device = self.aggregation.start(), jnp.asarray(payload)
    messages, sent = [], []
    for message in self.exchange.uplink(
      arriving(), payload, cohort.ids, round_idx
    ):
      key_words = members.uplink_keys[len(messages)]
      total = self.aggregation.add(total, key_words, message.symbols, on_device)
      if archive and self.method.compressor.mask_is_dithered:
        sent.append(message.symbols)
      messages.append(message._replace(symbols=None))
    if sent:
      before = known or Known(payload, np.zeros(self._num_clients, np.bool_))
      sent = np.stack(sent)
      archive(Archived(round_idx, cohort.ids, payload, sent, *before))
    server, info = self.aggregation.finish(
      state.server, total, count, np.int32(round_idx)
    )
    keep = lambda old, *new: old.at[cohort.ids].set(
      jnp.concatenate(new)[:count]
    )
    clients = jax.tree.map(keep, state.clients, *states)
    if known:
      known = Known(payload, np.isin(np.arange(self._num_clients), cohort.ids))
    state = State(server, clients, known)
    info = jax.device_get(info)._asdict()
    if not np.isfinite(list(info.values())).all():
      raise FloatingPointError(
        f'Round {round_idx}: the server reports {info}. Lower'
        ' config.optimizer.learning_rate or server_learning_rate.'
      )
    loss, correct, examples = (
      np.concatenate(parts)[:count].sum() for parts in zip(*sums, strict=True)
    )
    broadcast = broadcast.result()
    downlink_bytes = sum(broadcast.num_bytes)
    uplink_bytes = sum(message.num_bytes for message in messages)
    row = {
      'round_idx': round_idx,
      'train/loss': float(loss / examples),
      'train/accuracy': float(correct / examples),
      'uplink/bytes': uplink_bytes,
      'uplink/bpp_wire': 8 * uplink_bytes / (count * size),
      'downlink/bytes': downlink_bytes,
      'downlink/bpp_wire': 8 * downlink_bytes / (count * size),
    }
    if self.method.compressor.symbols_are_the_mask:
      densities = [message.density for message in messages]
      estimates = [estimated_bpp(density, size) for density in densities]
      row['uplink/bpp_entropy'] = float(np.mean(estimates))
      row['mask/density'] = float(np.mean(densities))
    row |= {f'server/{name}': float(x) for name, x in info.items()}
    row['time/round_s'] = time.perf_counter() - start
    row['time/clients_s'] = trained_by - training_from
    coding = sum(message.seconds for message in messages)
    row['time/wire_s'] = broadcast.seconds + coding
    return state, row


def _rows(sharded: jax.Array) -> list[np.ndarray]:
  """The rows of an array that is sharded by rows; on a CPU without a copy."""
  shards = sorted(
    sharded.addressable_shards, key=lambda s: s.index[0].start or 0
  )
  return [row for shard in shards for row in np.asarray(shard.data)]


def _check_losses(loss: np.ndarray, ids: np.ndarray, round_idx: int) -> None:
  """Raises FloatingPointError where a client's training has diverged."""
  bad = [int(i) for i, x in zip(ids, loss, strict=False) if not np.isfinite(x)]
  if bad:
    raise FloatingPointError(
      f'Round {round_idx}: the training loss of clients {bad} is not finite.'
      ' Lower config.optimizer.learning_rate (of dense methods also'
      ' server_learning_rate), or see config.weights.gain.'
    )
