"""A grid in this process: nodes answer at once, or as a test tells them to."""

import itertools
from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedpm_jax.federation import client_app

CRASHED = 2  # Flower's code of an app that raised an exception


class Clock:
  """Seconds that pass only when somebody sleeps."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now

  def sleep(self, seconds):
    self.now += seconds


class Node:
  """A SuperNode with the client app of this package."""

  def __init__(self, node_config, run_config):
    self._config, self._run_config = node_config, run_config
    self.restart()

  def restart(self):
    """What it kept in memory is lost."""
    self.context = Context(1, 0, self._config, RecordDict(), self._run_config)

  def __call__(self, message):
    return client_app.app(message, self.context)


class LocalGrid(Grid):
  """Delivers messages to nodes, functions of a message.

  Attributes:
    nodes: by node id; whoever is not there is not listed.
    on_reply: (request, reply) -> the replies that really arrive.
    traffic: (kind, node, length of the protocol's message) of every request.
  """

  def __init__(self, nodes):
    for name in ('task_id', 'run_id', 'node_id'):
      setattr(TaskIdentity, name, 1)
    self.nodes: dict[int, Callable] = dict(nodes)
    self.on_reply = lambda request, reply: [reply]
    self.traffic = []
    self._inbox, self._ids = [], itertools.count()

  def set_run(self, run):
    raise AssertionError

  @property
  def run(self):
    raise AssertionError

  def create_message(self, *args, **options):
    raise AssertionError

  def get_node_ids(self):
    return list(self.nodes)

  def push_messages(self, messages):
    keys = []
    for request in messages:
      key, node = f'message {next(self._ids)}', request.metadata.dst_node_id
      request.metadata.__dict__['_message_id'] = key
      keys.append(key)
      if node not in self.nodes:
        continue  # It has gone meanwhile.
      length = len(request.content['fedpm']['message'])
      self.traffic.append((request.metadata.message_type, node, length))
      try:
        reply = self.nodes[node](request)
      except Exception as error:
        reply = Message(Error(CRASHED, str(error)), reply_to=request)
      if reply is not None:
        self._inbox += self.on_reply(request, reply)
    return keys

  def deliver(self, reply):
    """Something that arrives on its own."""
    self._inbox.append(reply)

  def pull_messages(self, message_ids):
    wanted = set(message_ids)
    here = [
      reply
      for reply in self._inbox
      if reply.metadata.reply_to_message_id in wanted
    ]
    self._inbox = [reply for reply in self._inbox if reply not in here]
    return here

  def send_and_receive(self, messages, *, timeout=None):
    return self.pull_messages(self.push_messages(messages))


def changed(reply, **fields):
  """The reply with other fields; None leaves one out."""
  record = dict(reply.content['fedpm']) | fields
  record = {k: v for k, v in record.items() if v is not None}
  return with_records(reply, RecordDict({'fedpm': ConfigRecord(record)}))


def with_records(reply, records):
  copy = Message(reply.content, reply_to=_asked_of(reply))
  copy.__dict__['_metadata'] = reply.metadata
  copy.__dict__['_content'] = records
  return copy


def _asked_of(reply):
  """A message that `reply` could answer: Flower makes replies of messages."""
  return Message(RecordDict(), 1, reply.metadata.message_type)
