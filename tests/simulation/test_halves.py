"""Clients and a server that only exchange bytes do what the simulation does.

This is how a federation uses `protocol`: one client after another, each with
its own memory, nothing vectorised and nothing shared.  Every method of
configs/methods.py is held to the same messages, states and metrics, to the bit.
"""

import chex
import jax
import numpy as np
import pytest
import toy

from fedpm_jax import codecs
from fedpm_jax.protocol.client import Client, ForgottenError, work
from fedpm_jax.protocol.server import Server

METHODS = toy.methods_table()
COHORTS = ([0, 1, 2, 3], [0, 1, 3], [1, 2, 3])
CLIENTS = 4


class Federation:
  """A server, and clients with memories, in plain loops."""

  def __init__(self, method, images, labels):
    self.method = method
    self.data = images, labels
    self.server = Server(method, seed=0)
    self.clients = [Client(method, seed=0) for _ in range(CLIENTS)]
    self.memories = [client.first_memory() for client in self.clients]
    self.state, _ = self.server.init()
    self.own_states = [client.first_state() for client in self.clients]
    self.counted = np.arange(CLIENTS)

  def held(self):
    """What the server would keep of `self.counted`."""
    q = self.memories[self.counted[0]].q
    return self.server.held_after(q, self.counted, CLIENTS)

  def round(self, cohort, t):
    """Runs one; returns the lengths of the messages down and up."""
    payload = self.server.payload(self.state)
    expected, down, up = None, [], []
    if self.method.downlink_needs_memory:
      expected = self.server.expected(self.held(), t)
    total = self.server.aggregation.start()
    for row, i in enumerate(cohort.ids):
      client = self.clients[i]
      knows = i in self.counted and self.method.downlink_needs_memory
      message = self.server.broadcast(
        payload, expected if knows else None, round_idx=t
      )
      down.append(len(message))
      received, self.memories[i] = client.open(
        bytes(message), self.memories[i], round_idx=t, last_ids=self.counted
      )
      trained = client.train(
        received,
        *self.data,
        self.own_states[i],
        work=work(
          0, i, t, indices=cohort.indices[row], valid=cohort.valid[row]
        ),
      )
      self.own_states[i] = trained.client_state
      sealed = client.seal(
        np.asarray(trained.symbols), received, client=i, round_idx=t
      )
      up.append(len(sealed))
      symbols = self.server.open(bytes(sealed), payload, client=i, round_idx=t)
      words = self.server.uplink_keys(i, t)
      total = self.server.aggregation.add(total, words, symbols, payload)
    self.state, _ = self.server.aggregation.finish(
      self.state, total, len(cohort.ids), np.int32(t)
    )
    self.counted = np.asarray(cohort.ids)
    return down, up


@pytest.mark.parametrize('name', METHODS)
def test_halves_and_simulation_agree(name):
  method = toy.named_method(toy.network(), METHODS[name])
  engine, rng = toy.engine_of(method), np.random.default_rng(0)
  federation = Federation(method, *map(np.asarray, engine.data))
  state, foreseen = engine.init(), None
  for t, ids in enumerate(COHORTS):
    cohort = toy.cohort(rng, ids)
    state, row, foreseen, _ = engine.run(state, cohort, t, foreseen=foreseen)
    down, up = federation.round(cohort, t)
    assert row['downlink/bytes'] == sum(down)
    assert row['uplink/bytes'] == sum(up)
    chex.assert_trees_all_equal(
      jax.device_get(state.server), jax.device_get(federation.state)
    )


def test_who_has_lost_its_memory_is_told_to_ask_for_the_whole():
  method = toy.method(toy.network())
  engine, rng = toy.engine_of(method), np.random.default_rng(0)
  federation = Federation(method, *map(np.asarray, engine.data))
  federation.round(toy.cohort(rng, [0, 1, 2, 3]), 0)
  payload = federation.server.payload(federation.state)
  expected = federation.server.expected(federation.held(), 1)
  news = federation.server.broadcast(payload, expected, round_idx=1)
  whole = federation.server.broadcast(payload, None, round_idx=1)
  assert len(news) < len(whole)
  client, counted = federation.clients[0], federation.counted
  for memory in (None, client.first_memory()):
    with pytest.raises(ForgottenError, match=r'theta of round 0.* the whole'):
      client.open(news, memory, round_idx=1, last_ids=counted)
    received, kept = client.open(whole, memory, round_idx=1, last_ids=counted)
    np.testing.assert_array_equal(received, payload)
    assert kept.round_idx == 1
    np.testing.assert_array_equal(kept.q, payload)


def test_a_client_refuses_what_is_not_due():
  method = toy.method(toy.network())
  client, server = Client(method, seed=0), Server(method, seed=0)
  memory, everybody = client.first_memory(), np.arange(CLIENTS)
  payload = server.payload(server.init()[0])
  whole = bytes(server.broadcast(payload, None, round_idx=3))
  open_ = lambda message, t: client.open(
    message, memory, round_idx=t, last_ids=everybody
  )
  np.testing.assert_array_equal(open_(whole, 3)[0], payload)
  with pytest.raises(codecs.WireError, match='round_idx'):
    open_(whole, 4)
  with pytest.raises(codecs.WireError, match='message length'):
    open_(whole[:20], 3)
  other = Server(
    toy.method(toy.network(), downlink='theta_raw'), seed=0
  ).broadcast(payload, None, round_idx=3)
  with pytest.raises(codecs.WireError, match="codec: got 'theta_raw'"):
    open_(other, 3)


def test_a_server_refuses_what_no_client_can_have_sent():
  method = toy.named_method(toy.network(), METHODS['qsgd'])
  server, client = Server(method, seed=0), Client(method, seed=0)
  payload = server.payload(server.init()[0])
  symbols = np.full(sum(method.compressor.sizes), 255, np.uint8)
  message = client.seal(symbols, payload, client=2, round_idx=0)
  with pytest.raises(codecs.WireError, match='symbols of client 2: got a'):
    server.open(message, payload, client=2, round_idx=0)
  with pytest.raises(codecs.WireError, match='client'):
    server.open(message, payload, client=1, round_idx=0)
