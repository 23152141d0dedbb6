"""Clients that die, are late, are others, or send anything at all.

A round goes on with those that answered well, and is then, to the bit, the
simulated round of just that cohort.
"""

import federations as f
import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from local_grid import changed, with_records

from fedpm_jax.experiments import run
from fedpm_jax.federation import envelope, settings
from fedpm_jax.federation.node import Node as Client
from fedpm_jax.protocol import wire

VICTIM, ROUND = 2, 1  # whose answer to which round goes wrong
OPTIONS = {'timeout': 100.0, 'join_timeout': 50.0}


def is_victims(request):
  sent = envelope.read_ask(request)
  return sent.message and (sent.client, sent.round_idx) == (VICTIM, ROUND)


def message_of(reply):
  return reply.content['fedpm']['message']


def with_message(edit):
  return lambda reply: changed(reply, message=edit(message_of(reply)))


def flipped(at):
  def edit(message):
    damaged = bytearray(message)
    damaged[at] ^= 1
    return bytes(damaged)

  return edit


def noise(message):
  return np.random.default_rng(0).bytes(len(message))


def resealed(message):
  """Random symbols under a header and a checksum that are right."""
  header = wire.peek(message)
  body = bytearray(message)
  size = header.payload_bytes
  body[wire.OVERHEAD_BYTES - 4 : -4] = np.random.default_rng(1).bytes(size)
  payload_crc = wire.zlib_ng.crc32(bytes(body[wire.OVERHEAD_BYTES - 4 : -4]))
  head = bytes(body[: wire.OVERHEAD_BYTES - 4])
  body[-4:] = wire.zlib_ng.crc32(head, payload_crc).to_bytes(4, 'little')
  return bytes(body)


MALFORMED = {
  'a bit of the payload': with_message(flipped(-40)),
  'a bit of the header': with_message(flipped(7)),
  'cut short': with_message(lambda message: message[:-9]),
  'too long': with_message(lambda message: message + b'\0'),
  'empty': with_message(lambda message: b''),
  'noise': with_message(noise),
  'other symbols, right checksums': with_message(resealed),
  'no message': lambda reply: changed(reply, message=None),
  'a text for a message': lambda reply: changed(reply, message='0101'),
  'another client': lambda reply: changed(reply, client=0),
  'no such client': lambda reply: changed(reply, client=2**31),
  'a negative client': lambda reply: changed(reply, client=-1),
  'an unknown status': lambda reply: changed(reply, status='fine'),
  'it only says who it is': lambda reply: changed(reply, status='here'),
  'a loss that is no number': lambda reply: changed(
    reply, sums=[float('nan'), 1.0, 16.0]
  ),
  'a huge loss': lambda reply: changed(reply, sums=[1e300, 1.0, 16.0]),
  'more hits than examples': lambda reply: changed(reply, sums=[9.0, 9.0, 8.0]),
  'no examples': lambda reply: changed(reply, sums=[0.0, 0.0, 0.0]),
  'two sums': lambda reply: changed(reply, sums=[1.0, 1.0]),
  'an agreement that is none': lambda reply: changed(
    reply, status='other', agreement='{"terms": 5}'
  ),
  'a deep agreement': lambda reply: changed(
    reply, status='other', agreement='[' * 60_000
  ),
  'another record': lambda reply: with_records(
    reply, RecordDict({'fedpm': ArrayRecord()})
  ),
  'no record': lambda reply: with_records(reply, RecordDict()),
  'two records': lambda reply: with_records(
    reply,
    RecordDict({'fedpm': reply.content['fedpm'], 'more': ConfigRecord()}),
  ),
}


@pytest.fixture(scope='module')
def without_the_victim(tmp_path_factory):
  """The simulation in which the victim lacks in that round."""
  folder = tmp_path_factory.mktemp('simulated')
  rows = f.simulate(folder, f.told(), {ROUND: [VICTIM]})
  return f.common(rows, DOWN), f.digest(folder)


# The server has sent the victim a broadcast, and the simulation has not.
DOWN = ('downlink/bytes',)
# Here a client gets two broadcasts, or the longer one.
MORE_DOWN = (*DOWN, 'downlink/bpp_wire')


def federate(folder, grid, **options):
  return f.federate(folder, grid, f.told(), **OPTIONS | options)


def check(folder, rows, expected):
  assert f.common(rows, DOWN) == expected[0]
  assert f.digest(folder) == expected[1]
  assert [row['federation/answers'] for row in rows] == [4, 3, 4]


@pytest.mark.parametrize('case', MALFORMED)
def test_a_malformed_answer_is_left_out(tmp_path, case, without_the_victim):
  grid = f.grid_of(f.told())
  grid.on_reply = lambda request, reply: [
    MALFORMED[case](reply) if is_victims(request) else reply
  ]
  rows = federate(tmp_path, grid)
  check(tmp_path, rows, without_the_victim)
  assert [row['federation/refused'] for row in rows] == [0, 1, 0]


def test_an_app_that_crashes_is_left_out(tmp_path, without_the_victim):
  grid = f.grid_of(f.told())
  healthy = grid.nodes[f.node_id(VICTIM)]

  def crashing(message):
    if is_victims(message):
      raise OSError('the disk is full\nand more')
    return healthy(message)

  grid.nodes[f.node_id(VICTIM)] = crashing
  rows = federate(tmp_path, grid)
  check(tmp_path, rows, without_the_victim)
  assert [row['federation/failed'] for row in rows] == [0, 1, 0]


def test_who_dies_in_a_round_may_come_back_in_the_next(
  tmp_path, without_the_victim, monkeypatch
):
  grid = f.grid_of(f.told())
  victim = grid.nodes[f.node_id(VICTIM)]

  def dying(message):
    if is_victims(message):
      del grid.nodes[f.node_id(VICTIM)]  # It is no longer listed.
      return None
    return victim(message)

  def evaluate(federated):  # Between two rounds it is back.
    if federated.next_round == ROUND + 1:
      grid.nodes[777] = victim
    return f.Experiment.evaluate(federated)

  grid.nodes[f.node_id(VICTIM)] = dying
  monkeypatch.setattr(f.Federated, 'evaluate', evaluate)
  rows = federate(tmp_path, grid)
  check(tmp_path, rows, without_the_victim)
  assert [row['federation/absent'] for row in rows] == [0, 1, 0]


def test_a_late_answer_counts_for_nothing(tmp_path, without_the_victim):
  grid, late = f.grid_of(f.told()), []

  def on_reply(request, reply):
    if is_victims(request):
      late.append(reply)
      return []
    over = envelope.read_ask(request).round_idx > ROUND
    return [reply, *(late.pop() for _ in late[: int(over)])]

  grid.on_reply = on_reply
  rows = federate(tmp_path, grid, timeout=20.0)
  check(tmp_path, rows, without_the_victim)
  assert [row['federation/late'] for row in rows] == [0, 0, 1]


def test_the_answer_to_an_old_round_is_refused(tmp_path, without_the_victim):
  grid, old = f.grid_of(f.told()), []

  def on_reply(request, reply):
    sent = envelope.read_ask(request)
    if sent.message and sent.client == VICTIM:
      old.append(message_of(reply))
    if is_victims(request):
      return [changed(reply, message=old[0])]
    return [reply]

  grid.on_reply = on_reply
  rows = federate(tmp_path, grid)
  check(tmp_path, rows, without_the_victim)
  assert rows[ROUND]['federation/refused'] == 1


def test_an_answer_counts_once(tmp_path):
  told = f.told()
  simulated = f.simulate(tmp_path / 'simulated', told)
  grid = f.grid_of(told)
  grid.on_reply = lambda request, reply: [reply, reply, reply]
  rows = federate(tmp_path / 'federated', grid)
  assert f.common(rows) == f.common(simulated)


def test_two_answers_of_one_round_count_once(tmp_path):
  """The server has asked twice, because too few had answered."""
  told, held = f.told(), []
  simulated = f.simulate(tmp_path / 'simulated', told)
  grid = f.grid_of(told)

  def on_reply(request, reply):
    if not is_victims(request):
      return [reply]
    held.append(reply)
    # Asked again, it holds this round's theta, and asks for the whole one.
    return {1: [], 2: [reply], 3: [reply, held[0]]}[len(held)]

  grid.on_reply = on_reply
  rows = federate(tmp_path / 'federated', grid, min_answers=4)
  assert f.common(rows, MORE_DOWN) == f.common(simulated, MORE_DOWN)
  assert [row['federation/answers'] for row in rows] == [4, 4, 4]
  assert rows[ROUND]['federation/twice'] == 1


def test_a_private_client_answers_a_round_once(tmp_path):
  """Asked again, it sends that answer again; to an older round it sends none.

  Each further answer would have flips of its own, which no account of privacy
  counts.
  """
  told = f.told(
    '--config.wire.private_randomness=true --config.wire.uplink=prior'
    ' --config.wire.downlink=theta_levels'
  )
  grid, requests, sent = f.grid_of(told), [], []

  def on_reply(request, reply):
    asked = envelope.read_ask(request)
    if asked.message and asked.client == VICTIM:
      requests.append(request)
    if not is_victims(request):
      return [reply]
    sent.append(envelope.read_answer(reply))
    return [reply] if len(sent) > 1 else []

  grid.on_reply = on_reply
  rows = f.federate(tmp_path, grid, told, **OPTIONS | {'min_answers': 4})
  assert [row['federation/answers'] for row in rows] == [4, 4, 4]
  assert len(sent) == 2
  assert sent[0] == sent[1]
  assert sent[0].status == envelope.UPDATE
  with pytest.raises(
    Exception, match='round: got 0, expected 2 or a later one'
  ):
    grid.nodes[f.node_id(VICTIM)](requests[0])


def test_a_client_that_starts_again_gets_the_whole_theta(tmp_path):
  told = f.told()
  simulated = f.simulate(tmp_path / 'simulated', told)
  grid = f.grid_of(told)
  victim = grid.nodes[f.node_id(VICTIM)]

  def forgetful(message):
    if is_victims(message) and victim.context.state:
      victim.restart()
    return victim(message)

  grid.nodes[f.node_id(VICTIM)] = forgetful
  rows = federate(tmp_path / 'federated', grid)
  assert f.common(rows, MORE_DOWN) == f.common(simulated, MORE_DOWN)
  assert [row['federation/forgotten'] for row in rows] == [0, 1, 0]
  # Both broadcasts are metered.
  assert rows[ROUND]['downlink/bytes'] > simulated[ROUND]['downlink/bytes']


def test_a_server_that_starts_again_goes_on(tmp_path):
  told = f.told('--config.checkpoint.every=1')
  simulated = f.simulate(tmp_path / 'simulated', told)
  grid = f.grid_of(told)

  def on_reply(request, reply):
    if envelope.read_ask(request).round_idx == 2 and grid.alive:
      raise KeyboardInterrupt  # in the middle of the last round
    return [reply]

  grid.on_reply, grid.alive = on_reply, True
  with pytest.raises(KeyboardInterrupt):
    f.federate(tmp_path / 'federated', grid, told)
  grid.alive = False
  rows = f.federate(tmp_path / 'federated', grid, told)
  # Its clients had been asked for the round before, and have trained it: they
  # remember a theta that the server does not count on.
  assert f.common(rows, MORE_DOWN) == f.common(simulated, MORE_DOWN)
  assert f.digest(tmp_path / 'federated') == f.digest(tmp_path / 'simulated')


@pytest.mark.parametrize(
  ('flags', 'what'),
  [
    ('--config.model=conv2', "model: 'conv2' there, 'cnn' here"),
    ('--config.batch_size=4', 'batch_size: 4 there, 8 here'),
    ('--config.wire.uplink=frequency', "wire.uplink: 'frequency' there"),
    ('--config.fedpm.theta_clip=0.2', 'fedpm.theta_clip: 0.2 there'),
    ('--config.data.partition=c_max', "partition: 'c_max' there"),
    ('--config.seed=6', 'seed: 6 there, 5 here'),
  ],
)
def test_another_configuration_is_refused_with_what_differs(
  tmp_path, caplog, flags, what
):
  grid = f.grid_of(f.told())
  grid.nodes[f.node_id(VICTIM)] = f.Node(
    {'partition-id': VICTIM}, f.told(flags)
  )
  rows = federate(tmp_path, grid)
  assert [row['federation/answers'] for row in rows] == [3, 3, 3]
  assert what in caplog.text


def test_a_client_that_is_taken_already_is_refused(tmp_path, caplog):
  grid = f.grid_of(f.told())
  grid.nodes[999] = f.Node({'partition-id': VICTIM}, f.told())
  rows = federate(tmp_path, grid)
  assert [row['federation/answers'] for row in rows] == [4, 4, 4]
  assert 'client 2 has a node already' in caplog.text


def test_below_the_minimum_a_round_waits_for_who_comes_back(tmp_path, caplog):
  told = f.told()
  simulated = f.simulate(tmp_path / 'simulated', told)
  grid, waited = f.grid_of(told), []
  victim = grid.nodes.pop(f.node_id(VICTIM))

  class Patience(f.Clock):
    def sleep(self, seconds):
      super().sleep(seconds)
      waited.append(seconds)
      if self.now > 300:
        grid.nodes[f.node_id(VICTIM)] = victim

  clock = Patience()
  experiment = f.functools.partial(
    f.Federated,
    grid=grid,
    clock=clock,
    sleep=clock.sleep,
    min_answers=4,
    **OPTIONS,
  )
  run.train(settings.read(told).config, tmp_path / 'run', experiment=experiment)
  rows = f.records.read_rows(tmp_path / 'run' / 'metrics.jsonl')
  assert f.common(rows, DOWN) == f.common(simulated, DOWN)
  assert '3 of 4 clients have answered, and 4 are needed' in caplog.text
  assert clock.now > 300


def test_a_client_refuses_what_no_server_sends():
  told = f.told()
  chosen = settings.read(told)
  client = Client(chosen.config, 0)
  kept = client.first()
  ask = envelope.Ask(
    0, 0, np.arange(4), *client._agreement.hashes, b'no broadcast at all'
  )
  with pytest.raises(wire.codecs.WireError, match='message length'):
    client.answer(ask, kept)
  with pytest.raises(wire.codecs.WireError, match='client: got 3, expected 0'):
    client.answer(ask._replace(client=3), kept)
