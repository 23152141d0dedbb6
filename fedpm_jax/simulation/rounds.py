"""ONE ROUND of all clients, on one host or shared by several.

    broadcast    the server's payload; clients train with it at once, while a
                 thread encodes, meters and decodes it, and checks that it is
                 the same
    training     one jit: a turn of clients trains and compresses; symbols leave
                 the device packed
    uplink       K messages, sealed, metered, opened in threads
    aggregation  only what was decoded, and lies near theta if a bound is set,
                 is added up; then one update

Several hosts train and code a share of the cohort each, tell each other the sums
(`together`), and make the same update.

Dimensions: M clients in the population, K in the cohort, d parameters.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from fedpm_jax.protocol import robust
from fedpm_jax.protocol.client import Client
from fedpm_jax.protocol.foresight import Foreseen
from fedpm_jax.protocol.method import Method
from fedpm_jax.protocol.server import Held, Server
from fedpm_jax.simulation import link, meter, together
from fedpm_jax.simulation.cohort import Cohort, Trainer
from fedpm_jax.system.hosts import Hosts

__all__ = ['Cohort', 'Engine', 'Method', 'State']

_OTHER_MODEL = (
  'Hosts compute the same update each, so they need the same hardware and the'
  ' same versions.'
)


class State(NamedTuple):
  """All that is carried from round to round, and checkpointed.

  Attributes:
    server: the algorithm's server state.
    clients: the M clients' states, stacked `[M, ...]`; empty where the
      algorithm keeps none.
    held: a `protocol.server.Held`, which theta clients hold; empty where the
      downlink's codec does not ask.
  """

  server: chex.ArrayTree
  clients: chex.ArrayTree
  held: Any


class Kept(NamedTuple):
  """The masks of a round, and what both ends knew: for reports on codecs.

  Attributes:
    round_idx: 0-based.
    ids: int32 `[K]`.
    q: uint16 `[d]`, what the round started from.
    symbols: uint8 `[K, ceil(d / 8)]`, packed masks, as they were decoded.
    known_q: uint16 `[d]`, the theta of the round before.
    known_members: bool `[M]`, who held it; nobody where the run did not ask.
  """

  round_idx: int
  ids: np.ndarray
  q: np.ndarray
  symbols: np.ndarray
  known_q: np.ndarray
  known_members: np.ndarray


class Round(NamedTuple):
  """What a round leaves behind.

  Attributes:
    state: the next one.
    metrics: named as in `reports.records.UNITS`.
    foreseen: spares the next round's broadcast some work; may be dropped.
    kept: the masks as decoded, if `keep` was set and they are dithered.
  """

  state: State
  metrics: dict[str, float]
  foreseen: Foreseen | None = None
  kept: Kept | None = None


@functools.partial(jax.jit, donate_argnums=0)
def _replaced(
  clients: chex.ArrayTree, ids: np.ndarray, new: chex.ArrayTree
) -> chex.ArrayTree:
  """The states of all M clients, with those of K of them replaced in place."""
  put = lambda leaf, each: leaf.at[ids].set(each)
  return jax.tree.map(put, clients, new)


class Engine:
  """Runs rounds of one method on one data set; holds no state of the run."""

  def __init__(
    self,
    method: Method,
    *,
    seed: int,
    num_clients: int,
    inputs: np.ndarray | jax.Array,
    labels: np.ndarray | jax.Array,
    mesh: jax.sharding.Mesh,
    chunk: int = 1,
    turn: int = 0,
    step_factor: Callable[[int], float] | None = None,
    most_brought: int = 0,
    max_distance: float = 0.0,
    weights: np.ndarray | None = None,
    hosts: Hosts | None = None,
  ):
    """Compiles nothing yet, but puts the data on the devices, or leaves it.

    Args:
      method: see `Method`.
      seed: the experiment's.
      num_clients: M.
      inputs: `[N, ...]`, the whole training set.
      labels: int32 `[N]`.
      mesh: see `placement.make_mesh`.
      chunk: see `cohort.make_clients_step`.
      turn: see `cohort.Trainer`.
      step_factor: (round_idx) -> the factor on the optimiser's steps in that
        round; None where it is always 1.
      most_brought: see `cohort.Trainer`.
      max_distance: masks farther from theta count for nothing, see
        `protocol.robust`; 0: every mask counts.
      weights: int `[M]`, how much each client counts; None: all the same.
      hosts: that share the cohorts, each with a mesh of its own; None: this one
        alone.
    """
    self.method = method
    self.mesh = mesh
    self.hosts = hosts or Hosts()
    self._num_clients = num_clients
    self._max_distance = max_distance
    self.trainer = Trainer(
      method,
      seed=seed,
      inputs=inputs,
      labels=labels,
      mesh=mesh,
      chunk=chunk,
      turn=turn,
      step_factor=step_factor,
      most_brought=most_brought,
    )
    self.server = Server(method, seed=seed, weights=weights)
    self.aggregation = self.server.aggregation
    client = Client(method, seed=seed, foresight=self.server.foresight)
    self.link = link.Link(method, client, self.server)

  @property
  def data(self) -> tuple[Any, Any]:
    """Inputs and labels, on the devices or with the host."""
    return self.trainer.data

  def init(self, *, with_clients: bool = True) -> State:
    """The state before the first round, a function of the seed.

    Args:
      with_clients: False where clients keep their states themselves.
    """
    server, client = self.server.init()
    if not with_clients:
      client = ()
    stack = lambda leaf: jnp.repeat(leaf[None], self._num_clients, axis=0)
    held = ()
    if self.method.downlink_needs_memory:
      # A copy, because the server's own is donated.
      q = jnp.copy(self.method.algorithm.broadcast(server))
      held = Held(q, jnp.ones(self._num_clients, jnp.bool_))
    return State(server, jax.tree.map(stack, client), held)

  def run(
    self,
    state: State,
    cohort: Cohort,
    round_idx: int,
    *,
    foreseen: Foreseen | None = None,
    keep: bool = False,
  ) -> Round:
    """One round.

    Args:
      state: is consumed: its buffers are donated.
      cohort: who takes part, on which examples.
      round_idx: 0-based.
      foreseen: of the round before, if it is at hand.
      keep: whether to return the masks.

    Raises:
      FloatingPointError: a client's loss, or the server's report, is not
        finite.
      WireError: a message did not survive its coding, which is a bug.
      HostLost, HostFailed: another host did not end the round.
    """
    clock, ids = meter.Clock(), cohort.ids
    # Reports compare codecs of dithered masks only.
    keep = keep and self.method.compressor.mask_is_dithered
    held = jax.device_get(state.held)  # The host asks who holds what.
    payload = self.server.payload(state.server)
    self.hosts.check_same('model', payload.data, _OTHER_MODEL)
    with self.hosts.all_or_none(), link.threads() as pool:
      sending = self.link.broadcast(
        pool, payload, held, ids, round_idx, foreseen
      )
      own = self._own_part(pool, payload, state, cohort, round_idx, clock, keep)
      # Waits; raises if a client decoded other values.
      sent = sending.result()
    whole = together.join(self.hosts, own, keep=keep)
    members = self.members(ids, whole.far, round_idx)
    with self.hosts.all_or_none():
      server, info = self.finish(state.server, whole.total, members, round_idx)
      clients = _replaced(state.clients, ids, whole.client_states)
    kept = None
    if keep:
      kept = self._kept(round_idx, ids, payload, whole.received, held)
    if self.method.downlink_needs_memory:
      held = self.server.held_after(payload, members, self._num_clients)
    metrics = meter.metrics(
      round_idx,
      size=self.method.network.layout.num_parameters,
      sums=whole.sums,
      sent=sent,
      received=whole.received,
      info=info,
      clock=clock,
      left_out=len(ids) - len(members) if self._max_distance else None,
    )
    guess_sum = whole.guess_sum
    return Round(
      State(server, clients, held),
      metrics,
      None if guess_sum is None else guess_sum.foreseen(),
      kept,
    )

  def _own_part(
    self,
    pool: futures.ThreadPoolExecutor,
    payload: np.ndarray,
    state: State,
    cohort: Cohort,
    round_idx: int,
    clock: meter.Clock,
    keep: bool,
  ) -> together.Part:
    """Trains this host's share of the cohort, and carries its messages."""
    share = self.hosts.share(len(cohort.ids))
    cohort = Cohort(*(rows[share] for rows in cohort))
    ids, guess_sum = cohort.ids, None
    if self.method.payload_is_foreseen:
      guess_sum = self.server.foresight.empty_sum(payload, ids, round_idx)
    clock.training_starts()
    training = self.trainer.prepare(payload, state.clients, cohort, round_idx)
    symbols = training.symbols(clock)
    arriving = self.link.uplink(
      pool, symbols, payload, ids, round_idx, guess_sum
    )
    # Nothing has run yet but the broadcast.  Reading `arriving` trains, seals
    # and opens, client by client, and fills `guess_sum` on the way.
    total, received, far = self.add_up(
      arriving, payload, ids, round_idx, keep=keep
    )
    symbols.close()  # The last turn's arrays make room for the update.
    states = training.new_states()
    return together.Part(
      ids, total, training.sums, received, far, states, guess_sum
    )

  def add_up(
    self,
    arriving: Iterator[link.Received],
    payload: np.ndarray,
    ids: np.ndarray,
    round_idx: int,
    *,
    keep: bool = False,
  ) -> tuple[jax.Array, list[link.Received], dict[int, float]]:
    """The sum of what arrives; the messages; who is too far away, and how far.

    Messages are without their symbols, unless those are kept.

    Args:
      arriving: the K messages, one after another.
      payload: what the round started from, `[d]`.
      ids: int `[K]`, who sent them.
      round_idx: 0-based.
      keep: whether the symbols are.
    """
    total, on_device = self.aggregation.start(), jnp.asarray(payload)
    uplink_keys = self.server.uplink_keys(ids, round_idx)
    bound = self._max_distance
    distance = lambda symbols: 0.0
    if bound:
      sizes = self.method.compressor.sizes
      distance = robust.distance_from(payload, sizes)
    received, far = [], {}
    for message, client, key_words in zip(
      arriving, ids.tolist(), uplink_keys, strict=True
    ):
      symbols, apart = message.symbols, distance(message.symbols)
      if apart > bound:
        far[client] = apart
      else:
        total = self.aggregation.add(
          total, key_words, symbols, on_device, self.server.weight(client)
        )
      if not keep:
        message = message._replace(symbols=np.zeros(0, np.uint8))
      received.append(message)
    return total, received, far

  def members(
    self, ids: np.ndarray, far: dict[int, float], round_idx: int
  ) -> np.ndarray:
    """Whose symbols were added up; the others are told of.

    Args:
      ids: int `[K]`.
      far: of `add_up`.
      round_idx: 0-based.
    """
    if far:
      account = robust.account(far, len(ids), self._max_distance, round_idx)
      logging.warning('%s', account)
    return np.setdiff1d(ids, list(far))

  def finish(
    self,
    server_state: chex.ArrayTree,
    total: jax.Array,
    members: np.ndarray,
    round_idx: int,
  ) -> tuple[Any, dict[str, Any]]:
    """The server's update, and what it reports, if that is finite.

    Args:
      server_state: is donated.
      total: of `aggregation`.
      members: int `[K]`, the clients that it is of.
      round_idx: 0-based.

    Raises:
      FloatingPointError: what it reports is not finite.
    """
    if not len(members):  # There is nothing to learn.
      return server_state, {}
    server, info = self.aggregation.finish(
      server_state,
      total,
      len(members),
      np.int32(round_idx),
      self.server.weight_sum(members),
    )
    info = jax.device_get(info)._asdict()
    if not np.isfinite(list(info.values())).all():
      raise FloatingPointError(
        f'Round {round_idx + 1}: the server reports {info}.'
      )
    return server, info

  def _kept(
    self,
    round_idx: int,
    ids: np.ndarray,
    payload: np.ndarray,
    received: list[link.Received],
    held: Held | tuple[()],
  ) -> Kept:
    before = held or Held(payload, np.zeros(self._num_clients, np.bool_))
    symbols = np.stack([message.symbols for message in received])
    known_q, known_members = map(np.asarray, before)
    return Kept(round_idx, ids, payload, symbols, known_q, known_members)
