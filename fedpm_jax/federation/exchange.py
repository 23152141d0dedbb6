"""One round's messages out, and the answers back in time.

A round waits for every client of its cohort.  It goes on without those that
fail, that send what cannot be read, that have had no node for `join_timeout`
seconds or give no answer for `timeout` seconds.  With fewer answers than
`min_answers` it goes on waiting, and asks again.

A node that appears is asked who it is.  A client has one node at a time: the
first that says so, until Flower no longer lists it.  An answer counts for the
message that it answers: once, and in its own round.
"""

import collections
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedpm_jax.codecs import WireError
from fedpm_jax.federation import agreement, envelope
from fedpm_jax.federation.agreement import Agreement
from fedpm_jax.federation.envelope import Answer, Ask
from fedpm_jax.system.text import one_line, printable

_POLL_S, _RETRY_S = 0.2, 10.0
_KEEP_ROUNDS = 3  # for which late answers are still told of

# What can happen to an answer; counted, and a line in the log each.
EVENTS = ('late', 'twice', 'refused', 'failed', 'forgotten', 'absent')


class _Sent(NamedTuple):
  """A message that may still be answered."""

  kind: str
  round_idx: int
  node: int
  client: int


class Answers(NamedTuple):
  """What a round has brought.

  Attributes:
    taken: of each client that answered, what `take` made of it.
    counts: how often each of EVENTS happened.
    bytes_down: of all records sent in the round, as `envelope.num_bytes`.
    bytes_up: of all records received.
    messages_down: of each client, the lengths of the broadcasts sent to it.
  """

  taken: dict[int, Any]
  counts: collections.Counter
  bytes_down: int
  bytes_up: int
  messages_down: dict[int, list[int]]


class Going:
  """A round that is going on."""

  def __init__(
    self,
    round_idx: int,
    ids: Sequence[int],
    ask: Callable[[int, bool], Ask],
    take: Callable[[Answer], Any],
  ):
    self.round_idx, self.ids, self.ask, self.take = round_idx, ids, ask, take
    self.taken: dict[int, Any] = {}
    self.asked: set[int] = set()
    self.out: set[int] = set()  # they have failed, or sent nonsense
    self.forgotten: set[int] = set()
    self.counts = collections.Counter()
    self.bytes_down = self.bytes_up = 0
    self.messages_down = collections.defaultdict(list)


class Exchange:
  """The server's side of the network; lives as long as the run."""

  def __init__(
    self,
    grid: Grid,
    agreed: Agreement,
    *,
    num_clients: int,
    min_answers: int,
    timeout: float,
    join_timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
  ):
    """Sends nothing yet.

    Args:
      grid: Flower's.
      agreed: what every client must have.
      num_clients: M.
      min_answers: see the top of this file; at most the cohort is waited for.
      timeout: seconds; 0 waits for ever.
      join_timeout: seconds.
      clock: seconds that only grow.
      sleep: waits.
    """
    self._grid, self._agreed = grid, agreed
    self._num_clients = num_clients
    self._min_answers = max(min_answers, 1)
    self._timeout = timeout or float('inf')
    self._join_timeout = join_timeout
    self._clock, self._sleep = clock, sleep
    self._node_of: dict[int, int] = {}  # by client
    self._absent_since = dict.fromkeys(range(num_clients), clock())
    self._greeted: set[int] = set()  # nodes
    self._waiting: dict[str, _Sent] = {}  # by the message's id

  def round(
    self,
    round_idx: int,
    ids: Sequence[int],
    ask: Callable[[int, bool], Ask],
    take: Callable[[Answer], Any],
  ) -> Answers:
    """Asks a cohort, and returns what its clients answered.

    Args:
      round_idx: 0-based.
      ids: the cohort's clients.
      ask: (client, whether it has lost its memory) -> what it is asked.
      take: reads a client's update; WireError where it is malformed.
    """
    going = self.begin(round_idx, ids, ask, take)
    asked_at = self._clock()
    while True:
      self._greet(going)
      for client, message in self.messages(going):
        self._push(going, message, envelope.TRAIN, client)
      self._collect(going)
      now = self._clock()
      missing = [i for i in ids if i not in going.taken and i not in going.out]
      waits = now - asked_at < self._timeout and any(
        i in self._node_of or now - self._absent_since[i] < self._join_timeout
        for i in missing
      )
      if not missing or not waits:
        if len(going.taken) >= self.enough(going):
          break
        logging.warning(
          'Round %d: %d of %d clients have answered, and %d are needed; it waits'
          ' and asks the others again.',
          *(round_idx + 1, len(going.taken), len(ids), self._min_answers),
        )
        self._sleep(_RETRY_S)
        going.out.clear()
        going.asked.clear()
        self._ask_again_who()
        asked_at = self._clock()
      self._sleep(_POLL_S)
    return self.end(going)

  def begin(
    self,
    round_idx: int,
    ids: Sequence[int],
    ask: Callable[[int, bool], Ask],
    take: Callable[[Answer], Any],
  ) -> Going:
    """A round in which nobody is asked yet; arguments as of `round`."""
    self._waiting = {
      key: sent
      for key, sent in self._waiting.items()
      if sent.round_idx >= round_idx - _KEEP_ROUNDS
    }
    self._ask_again_who()
    return Going(round_idx, ids, ask, take)

  def enough(self, going: Going) -> int:
    """So many answers make a round."""
    return min(self._min_answers, len(going.ids))

  def end(self, going: Going) -> Answers:
    """What the round has brought."""
    for client in going.ids:
      if client not in going.taken and client not in going.out:
        self._tell(going, 'absent', f'client {client} has not answered')
    return Answers(
      going.taken,
      going.counts,
      going.bytes_down,
      going.bytes_up,
      dict(going.messages_down),
    )

  def wait_for_nodes(self, going: Going) -> None:
    """Until every client of the cohort has a node, or `join_timeout`."""
    until = max(map(self._absent_since.__getitem__, going.ids))
    until += self._join_timeout
    while True:
      self._greet(going)
      self._collect(going)
      if self._clock() >= until or {*going.ids} <= {*self._node_of}:
        return
      self._sleep(_POLL_S)

  def _greet(self, going: Going) -> None:
    """Asks new nodes who they are, and forgets those that have gone."""
    nodes = set(self._grid.get_node_ids())
    self._greeted &= nodes
    for client, node in list(self._node_of.items()):
      if node not in nodes:
        del self._node_of[client]
        self._absent_since[client] = self._clock()
        # Its next node is asked anew, also one that was refused beside it.
        going.asked.discard(client)
        self._ask_again_who()
    for node in sorted(nodes - self._greeted):
      self._greeted.add(node)
      who = Ask(
        going.round_idx, 0, np.zeros(0, np.int64), *self._agreed.hashes, b''
      )
      message = self._message(going, envelope.JOIN, node, envelope.ask(who))
      self._push(going, message, envelope.JOIN, -1)

  def messages(self, going: Going) -> Iterator[tuple[int, Message]]:
    """Clients that have not been asked, each with what it is to be sent."""
    for client in going.ids:
      done = client in going.taken or client in going.out
      if done or client in going.asked or client not in self._node_of:
        continue
      going.asked.add(client)
      asked = going.ask(client, client in going.forgotten)
      going.messages_down[client].append(len(asked.message))
      node, content = self._node_of[client], envelope.ask(asked)
      yield client, self._message(going, envelope.TRAIN, node, content)

  def _message(
    self, going: Going, kind: str, node: int, content: RecordDict
  ) -> Message:
    going.bytes_down += envelope.num_bytes(content)
    # Nobody shall get it when the round is over.
    ttl = self._timeout if self._timeout < float('inf') else None
    group = str(going.round_idx)
    return Message(content, node, kind, ttl=ttl, group_id=group)

  def _push(
    self, going: Going, message: Message, kind: str, client: int
  ) -> None:
    node = message.metadata.dst_node_id
    for key in self._grid.push_messages([message]):
      if key:
        self._waiting[key] = _Sent(kind, going.round_idx, node, client)

  def _collect(self, going: Going) -> None:
    """Reads the answers that have arrived."""
    for reply in self._grid.pull_messages(list(self._waiting)):
      sent = self._waiting.pop(reply.metadata.reply_to_message_id, None)
      if sent is not None:  # Else it answers nothing that still waits.
        self._read(going, sent, reply)

  def read(self, going: Going, replies: Iterable[Message]) -> None:
    """Replies to `messages`, which somebody else has sent."""
    client_of = {node: client for client, node in self._node_of.items()}
    for reply in replies:
      node = reply.metadata.src_node_id
      if client_of.get(node) in going.asked:
        sent = _Sent(envelope.TRAIN, going.round_idx, node, client_of[node])
        self._read(going, sent, reply)

  def _read(self, going: Going, sent: _Sent, reply: Message) -> None:
    """One reply, which may be anything."""
    who = f'client {sent.client}' if sent.client >= 0 else f'node {sent.node}'
    is_due = sent.round_idx == going.round_idx
    try:
      if not reply.has_error():
        going.bytes_up += envelope.num_bytes(reply.content)
        self._read_answer(going, sent, envelope.read_answer(reply), who)
      elif is_due:
        going.out.add(sent.client)
        self._tell(going, 'failed', f'{who}: {reply.error.reason}')
    except WireError as error:
      if is_due:
        going.out.add(sent.client)
      self._tell(going, 'refused', f'{who}: {error}')

  def _read_answer(
    self, going: Going, sent: _Sent, answer: Answer, who: str
  ) -> None:
    """One answer, whose fields have their types."""
    client = answer.client
    if answer.status == envelope.OTHER:
      try:
        has = agreement.differences(self._agreed, answer.agreement)
      except ValueError as error:
        raise WireError(f'agreement: {error}') from error
      raise WireError(f'it has another configuration: {has}')
    if sent.kind == envelope.JOIN:
      if sent.node in self._greeted:  # It is still there.
        self._join(sent.node, answer)
    elif sent.round_idx != going.round_idx:
      self._tell(
        going, 'late', f'{who}: its answer to round {sent.round_idx + 1}'
      )
    elif client != sent.client or self._node_of.get(client) != sent.node:
      raise WireError(f'client: got {client}, expected {sent.client}.')
    elif client in going.taken:
      self._tell(going, 'twice', who)
    elif answer.status == envelope.FORGOTTEN:
      if client in going.forgotten:
        raise WireError('it asks for the whole theta, which it has got.')
      going.forgotten.add(client)
      going.asked.discard(client)
      self._tell(going, 'forgotten', f'{who} gets the whole theta')
    elif answer.status != envelope.UPDATE:
      raise WireError(f'status: got {answer.status!r}, expected an update.')
    else:
      going.taken[client] = going.take(answer)

  def _join(self, node: int, answer: Answer) -> None:
    """A node has said which client it is; WireError where it cannot be."""
    client = answer.client
    if answer.status != envelope.HERE:
      raise WireError(f'status: got {answer.status!r}, expected who it is.')
    if client >= self._num_clients:
      raise WireError(f'client: got {client}, expected < {self._num_clients}.')
    if self._node_of.get(client, node) != node:
      raise WireError(f'client {client} has a node already.')
    self._node_of[client] = node
    logging.info('Client %d has joined.', client)

  def _ask_again_who(self) -> None:
    """Nodes that have answered something else are asked once more."""
    asked = {s.node for s in self._waiting.values() if s.kind == envelope.JOIN}
    self._greeted &= asked | {*self._node_of.values()}

  def _tell(self, going: Going, event: str, what: str) -> None:
    """Counts an event, and writes a line."""
    going.counts[event] += 1
    logging.warning(
      'Round %d, %s: %s',
      *(going.round_idx + 1, event, printable(one_line(what))[:600]),
    )
