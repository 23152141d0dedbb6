"""A cohort's local training, turn by turn: the jitted `clients_step`.

A cohort is spread over the devices of a mesh axis `clients` (`jax.shard_map`,
the successor of pmap); inside a device, chunks of clients follow one another
(`lax.map`), and inside a chunk they are vectorised (`vmap`).

A cohort is trained in turns.  On a CPU a turn is as long as memory allows,
because training leaves the host no time for anything else.  Elsewhere a turn is
one chunk, and the host codes the messages of one turn while the next one
trains.  Chunk and turn set the memory, not the cohort; only the states that
clients of some algorithms keep grow with M.

Dimensions: K clients in the cohort, T in a turn, N examples, S local steps,
B batch, d parameters.
"""

import functools
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax.algorithms import local
from fedpm_jax.protocol import client as clients
from fedpm_jax.protocol.client import Shared, Trained, Work
from fedpm_jax.protocol.method import Method
from fedpm_jax.simulation import examples, placement
from fedpm_jax.simulation.meter import Clock

P = jax.sharding.PartitionSpec


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
) -> Callable[..., Trained]:
  """The jitted local training of a turn of clients.

  Args:
    method: what clients train and how they compress it.
    mesh: see `placement.make_mesh`.
    chunk: how many clients of a device are vectorised; 1 trains them one after
      another, which a CPU's caches like best.

  Returns:
    (Shared, Work `[T, ...]`, client states `[T, ...]`, own) -> Trained
    `[T, ...]`.  T must be a multiple of the mesh's size: see `_padded`.  `own`
    are the clients' examples, of `examples.brought`; () where indices point into
    those of `Shared`.
  """

  def one_client(each: tuple[Work, Any, Any], shared: Shared) -> Trained:
    work, client_state, own = each
    if own:
      shared = shared._replace(inputs=own[0], labels=own[1])
    return clients.train(method, work, client_state, shared)

  def one_device(each, shared):
    train = functools.partial(one_client, shared=shared)
    return lax.map(train, each, batch_size=chunk if chunk > 1 else None)

  sharded = jax.shard_map(
    one_device,
    mesh=mesh,
    in_specs=(P('clients'), P()),
    out_specs=P('clients'),
    check_vma=False,
  )

  @functools.partial(jax.jit, compiler_options=method.network.compiler_options)
  def clients_step(shared, work, client_states, own=()):
    return sharded((work, client_states, own), shared)

  return clients_step


class Training:
  """A cohort's training in one round.

  Read `symbols` once, to the end: only then `sums` and `new_states` are
  complete.
  """

  def __init__(
    self,
    turns: Generator[Trained, None, None],
    cohort: Cohort,
    round_idx: int,
  ):
    """See `Trainer.prepare`."""
    self.sums: list[local.Sums] = []
    self._turns = turns
    self._cohort = cohort
    self._round_idx = round_idx
    self._states = []

  def symbols(
    self, clock: Clock | None = None
  ) -> Generator[np.ndarray, None, None]:
    """The symbols of one client after another, those of idle clients last.

    Close it to let go of the last turn.

    Args:
      clock: is told when a turn is trained.

    Raises:
      FloatingPointError: a client's loss is not finite.
    """
    try:
      for turn in self._turns:
        symbols = _rows(turn.symbols)
        seen = len(self._states) * len(symbols)
        self._states.append(turn.client_state)
        self.sums.append(jax.device_get(turn.sums))
        del turn  # Its symbols are large; they go with the last row below.
        if clock:
          clock.turn_is_trained()
        ids = self._cohort.ids[seen:]
        _check_losses(self.sums[-1].loss, ids, self._round_idx)
        while symbols:
          yield symbols.pop(0)
    finally:
      self._turns.close()

  def new_states(self) -> chex.ArrayTree:
    """The states of the cohort's clients after the round, `[K, ...]`."""
    count = len(self._cohort.ids)
    join = lambda *turns: jnp.concatenate(turns)[:count]
    return jax.tree.map(join, *self._states)


class Trainer:
  """Trains cohorts of one method on one data set; holds no state of the run."""

  def __init__(
    self,
    method: Method,
    *,
    seed: int,
    inputs: np.ndarray | jax.Array,
    labels: np.ndarray | jax.Array,
    mesh: jax.sharding.Mesh,
    chunk: int = 1,
    turn: int = 0,
    step_factor: Callable[[int], float] | None = None,
    most_brought: int = 0,
  ):
    """Compiles nothing yet, but puts the data on the devices, or leaves it.

    Args:
      method: what clients train and how they compress it.
      seed: the experiment's.
      inputs: `[N, ...]`, the whole training set.
      labels: int32 `[N]`.
      mesh: see `placement.make_mesh`.
      chunk: see `make_clients_step`.
      turn: how many clients a device trains in a turn, at most; 0 for
        `placement.turn`.
      step_factor: see `rounds.Engine`.
      most_brought: n, the examples of the largest client, where each turn
        brings its own; 0: every device holds the whole training set.
    """
    self._seed = seed
    self._devices = mesh.size
    self._step_factor = step_factor
    self._most_brought = most_brought
    of_a_client = most_brought * inputs[:1].nbytes
    self._turn = turn or placement.turn(
      method.compressor, chunk, mesh.size, of_a_client
    )
    self._replicated = jax.NamedSharding(mesh, P())
    self._by_client = jax.NamedSharding(mesh, P('clients'))
    self.data: tuple[Any, Any] = inputs, labels
    if not most_brought:
      self.data = jax.device_put(self.data, self._replicated)
    self.receive = make_receive(method, mesh)
    self.clients_step = make_clients_step(method, mesh, chunk=chunk)

  @property
  def brings_examples(self) -> bool:
    """Whether each turn of clients brings its own examples."""
    return self._most_brought > 0

  def work(self, cohort: Cohort, round_idx: int) -> Work:
    """The cohort's examples with their keys, `[K, ...]`."""
    ids, indices, valid = cohort
    return clients.work(
      self._seed, ids, round_idx, indices=indices, valid=valid
    )

  def prepare(
    self,
    payload: np.ndarray,
    client_states: chex.ArrayTree,
    cohort: Cohort,
    round_idx: int,
  ) -> Training:
    """The cohort's training, which begins when its symbols are asked for.

    Args:
      payload: `[d]`, what the cohort was sent.
      client_states: of all M clients, `[M, ...]`.
      cohort: who trains, on which examples.
      round_idx: 0-based.
    """
    work = self.work(cohort, round_idx)
    factor = self._step_factor(round_idx) if self._step_factor else None
    turns = self.turns(payload, work, client_states, cohort.ids, factor)
    return Training(turns, cohort, round_idx)

  def turns(
    self,
    payload: np.ndarray,
    work: Work,
    client_states: chex.ArrayTree,
    ids: np.ndarray,
    step_factor: float | None = None,
  ) -> Generator[Trained, None, None]:
    """The cohort's turns, in order; while the caller has one, the next trains.

    Args:
      payload: `[d]`, what the cohort was sent.
      work: the cohort's, `[K, ...]`.
      client_states: of all M clients, `[M, ...]`.
      ids: int32 `[K]`, whose turn it is.
      step_factor: on the optimiser's steps; None where it is always 1.

    Yields:
      What T clients leave behind, `[T, ...]`, T always the same; the last rows
      of the last turn may belong to idle clients.
    """
    on_device = jax.device_put(payload, self._replicated)
    factor = None
    if step_factor is not None:
      factor = jax.device_put(np.float32(step_factor), self._replicated)
    data: tuple[Any, Any] = ((), ()) if self.brings_examples else self.data
    received = self.receive(on_device)
    shared = Shared(on_device, received, *data, factor)
    devices = self._devices
    turns = -(-len(ids) // (devices * self._turn))
    size = devices * -(-len(ids) // (devices * turns))
    padded = jax.tree.map(lambda x: _padded(x, size), (work, ids))

    def start(turn):
      part = lambda x: x[turn * size : (turn + 1) * size]
      work, ids = jax.tree.map(part, padded)
      states, own = jax.tree.map(lambda leaf: leaf[ids], client_states), ()
      if self.brings_examples:
        inputs, labels = self.data
        work, own = examples.brought(work, inputs, labels, self._most_brought)
      return self.clients_step(
        shared, *jax.device_put((work, states, own), self._by_client)
      )

    running = start(0)
    for turn in range(1, turns):
      following = start(turn)
      yield running
      running = following
    yield running


def _rows(sharded: jax.Array) -> list[np.ndarray]:
  """The rows of an array that is sharded by rows; on a CPU without a copy."""
  shards = sorted(
    sharded.addressable_shards, key=lambda s: s.index[0].start or 0
  )
  return [row for shard in shards for row in np.asarray(shard.data)]


def _check_losses(
  loss: np.ndarray | jax.Array, ids: np.ndarray, round_idx: int
) -> None:
  """Raises FloatingPointError where a client's training has diverged."""
  bad = [int(i) for i, x in zip(ids, loss, strict=False) if not np.isfinite(x)]
  if bad:
    raise FloatingPointError(
      f'Round {round_idx + 1}: the training of clients {bad} diverged, their loss'
      ' or what they trained is not finite.'
    )


def _padded(rows: np.ndarray, multiple: int) -> np.ndarray:
  """Rows of zeros added, up to a multiple: idle clients, without an example.

  They train nothing and nobody asks for their symbols.
  """
  missing = -len(rows) % multiple
  return np.pad(rows, [(0, missing), *[(0, 0)] * (rows.ndim - 1)])
