"""The server: an experiment whose rounds go over the network.

All else is that of a simulation: checkpoints, evaluation, metrics, the model's
file.  So the same program, stopped and started again, goes on here too.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from fedpm_jax import codecs
from fedpm_jax.algorithms import local
from fedpm_jax.experiments.config import Config
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.federation import agreement, exchange
from fedpm_jax.federation.envelope import Answer, Ask
from fedpm_jax.simulation import link, meter
from fedpm_jax.simulation.rounds import Round, State

_MAX_EXAMPLES, _MAX_LOSS = 2**31 - 1, 1e30  # of a client in a round


class Federated(Experiment):
  """A run whose clients are elsewhere."""

  simulates = False

  def __init__(
    self,
    config: Config,
    *,
    grid: Grid,
    min_answers: int = 1,
    timeout: float = 600.0,
    join_timeout: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    **parts: Any,
  ):
    """Builds everything and sends nothing yet.

    Args:
      config: of the experiment.
      grid: Flower's.
      min_answers: see `exchange`.
      timeout: seconds.
      join_timeout: seconds.
      clock: see `exchange.Exchange`.
      sleep: likewise.
      **parts: as of `Experiment`; of the data set only the test set, the shape
        of an input and the number of classes are used.
    """
    super().__init__(config, **parts)
    agreement.check_private(self.engine.method, config)
    self._begun: Any = None
    self._agreed = agreement.of(
      self.description, self.spec, self.engine.method.network
    )
    self._exchange = exchange.Exchange(
      grid,
      self._agreed,
      num_clients=config.num_clients,
      min_answers=min_answers,
      timeout=timeout,
      join_timeout=join_timeout,
      clock=clock,
      sleep=sleep,
    )

  @property
  def keeps_masks(self) -> bool:
    """Never: reports on codecs are made in simulations."""
    return False

  def run_round(self, *, keep: bool = False) -> Round:
    """One round, of those clients that answer; the state moves on."""
    del keep  # see `keeps_masks`
    turn = Turn(self)
    return self._end(
      turn, self._exchange.round(self.next_round, *turn.arguments)
    )

  def begin_round(self) -> list[Message]:
    """The messages of a round, for whoever sends them himself.

    It waits for the cohort's nodes.  `end_round` takes the replies.
    """
    turn = Turn(self)
    going = self._exchange.begin(self.next_round, *turn.arguments)
    self._exchange.wait_for_nodes(going)
    self._begun = turn, going
    return [message for _, message in self._exchange.messages(going)]

  def end_round(self, replies: Iterable[Message]) -> Round | None:
    """The round that `begin_round` began; None where it brought too little."""
    (turn, going), self._begun = self._begun, None
    self._exchange.read(going, replies)
    answers = self._exchange.end(going)
    if len(answers.taken) < self._exchange.enough(going):
      return None
    return self._end(turn, answers)

  def _end(self, turn: 'Turn', answers: exchange.Answers) -> Round:
    state, metrics = turn.finish(answers)
    metrics |= self.privacy_spent(self.next_round)
    self.set_state(state, self.next_round + 1)
    return Round(state, metrics)

  @property
  def agreed(self) -> agreement.Agreement:
    """What every client must have."""
    return self._agreed


class Turn:
  """The server's part in one round: what it asks, what it makes of answers."""

  def __init__(self, run: Federated):
    """Encodes nothing yet.

    Args:
      run: whose state the round starts from.
    """
    self._clock = meter.Clock()
    self._run, self._t = run, run.next_round
    self._ids = run.cohort_ids(self._t).tolist()
    self._server, self._method = run.engine.server, run.engine.method
    self._state = run.state
    self._payload = self._server.payload(self._state.server)
    self._held = jax.device_get(self._state.held)
    self._broadcasts: dict[bool, bytes] = {}  # by whether it is the whole
    self._sending_s = 0.0

  @property
  def arguments(self) -> tuple[list[int], Callable, Callable]:
    """What `Exchange.round` wants to know."""
    self._clock.training_starts()
    return self._ids, self.ask, self.take

  def ask(self, client: int, forgotten: bool) -> Ask:
    """What a client is asked: the news where it holds the last theta."""
    knows = bool(self._held) and bool(self._held.members[client])
    whole = forgotten or not knows
    if whole not in self._broadcasts:
      start = time.thread_time()
      expected = None
      if not whole:
        expected = self._server.expected(self._held, self._t)
      self._broadcasts[whole] = bytes(
        self._server.broadcast(self._payload, expected, round_idx=self._t)
      )
      self._sending_s += time.thread_time() - start
    return Ask(
      self._t,
      client,
      self._held.ids if self._held else np.zeros(0, np.int64),
      *self._run.agreed.hashes,
      self._broadcasts[whole],
    )

  def take(self, answer: Answer) -> tuple[link.Received, tuple]:
    """A client's symbols and sums; WireError where its message is malformed."""
    start = time.thread_time()
    symbols = self._server.open(
      answer.message, self._payload, client=answer.client, round_idx=self._t
    )
    loss, hits, examples = answer.sums
    if not hits <= examples <= _MAX_EXAMPLES or examples < 1:
      raise codecs.WireError(f'sums: got {hits} hits of {examples} examples.')
    if loss > _MAX_LOSS:
      raise codecs.WireError(f'sums: got a loss of {loss}.')
    density = None
    compressor = self._method.compressor
    if compressor.symbols_are_the_mask:
      ones = int(np.bitwise_count(symbols).sum())  # They are packed.
      density = ones / sum(compressor.sizes)
    received = link.Received(
      symbols, len(answer.message), density, time.thread_time() - start
    )
    return received, (loss, hits, examples)

  def finish(self, answers: exchange.Answers) -> tuple[State, dict[str, float]]:
    """The server's update with what has arrived, and the round's metrics.

    Raises:
      FloatingPointError: the server's report is not finite.
    """
    self._clock.turn_is_trained()
    # In the order of the cohort: sums of floats depend on it.
    ids = np.array([i for i in self._ids if i in answers.taken])
    received, sums = zip(*(answers.taken[i] for i in ids.tolist()), strict=True)
    engine, config = self._run.engine, self._run.config
    total, _, far = engine.add_up(iter(received), self._payload, ids, self._t)
    members = engine.members(ids, far, self._t)
    new, info = engine.finish(self._state.server, total, members, self._t)
    held = self._held
    if self._method.downlink_needs_memory:
      held = self._server.held_after(self._payload, members, config.num_clients)
    # Of all clients that it was sent to, whether they have answered or not.
    lengths = [sum(each) for each in answers.messages_down.values()]
    metrics = meter.metrics(
      self._t,
      size=self._method.network.layout.num_parameters,
      sums=[_sums(sums)],
      sent=link.Sent(lengths, self._sending_s),
      received=list(received),
      info=info,
      clock=self._clock,
      left_out=len(ids) - len(members) if config.robust.max_distance else None,
    )
    metrics |= {f'federation/{k}': answers.counts[k] for k in exchange.EVENTS}
    metrics['federation/answers'] = len(ids)
    metrics['federation/bytes_down'] = answers.bytes_down
    metrics['federation/bytes_up'] = answers.bytes_up
    return State(new, (), held), metrics


def _sums(rows: Iterable[tuple[float, float, float]]) -> local.Sums:
  """The clients' sums, of the types that a simulation has."""
  loss, hits, examples = map(np.array, zip(*rows, strict=True))
  of_type: Any = (
    loss.astype(np.float32),
    hits.astype(np.int32),
    examples.astype(np.int32),
  )
  return local.Sums(*of_type)
