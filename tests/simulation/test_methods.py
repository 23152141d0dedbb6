"""Laws that every method obeys: a new row of configs/methods.py is tested here.

One tiny network, all clients of a round, the real wire: what a method is made
of does not matter, only that it keeps to the contracts.
"""

import contextlib
import functools

import fake_runs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from fedpm_jax import codecs
from fedpm_jax.experiments import checkpoint
from fedpm_jax.protocol import wire
from fedpm_jax.reports import records

METHODS = toy.methods_table()
ROWS = pytest.mark.parametrize('name', METHODS)
IDS = [0, 1, 2, 3]


@functools.lru_cache
def _engine(name, chunk):
  return toy.engine_of(
    toy.named_method(toy.network(), METHODS[name]), chunk=chunk
  )


def engine_of(name, chunk=1):
  return _engine(name, chunk)


def run(name, *, rounds=2, chunk=1, order=IDS):
  """The states and rows of some rounds; `order` is that of the clients."""
  engine, rng = engine_of(name, chunk), np.random.default_rng(0)
  state = engine.init()
  states, rows = [jax.device_get(state)], []
  for t in range(rounds):
    cohort = toy.cohort(rng, IDS)
    cohort = type(cohort)(*(field[np.array(order)] for field in cohort))
    state, row, *_ = engine.run(state, cohort, t)
    states.append(jax.device_get(state))
    rows.append(row)
  return states, rows


def shapes(state):
  return jax.tree.map(lambda x: (np.shape(x), np.asarray(x).dtype), state)


def assert_same(one, other):
  """Integers to the bit, floats up to the order in which they were added."""
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    if np.issubdtype(np.asarray(a).dtype, np.floating):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    else:
      np.testing.assert_array_equal(a, b)


@ROWS
def test_it_trains_and_its_state_keeps_its_structure(name):
  states, rows = run(name, rounds=3)
  assert shapes(states[0]) == shapes(states[-1])
  moved = zip(
    jax.tree.leaves(states[0].server),
    jax.tree.leaves(states[-1].server),
    strict=True,
  )
  assert any((a != b).any() for a, b in moved)
  assert all(np.isfinite(row['train/loss']) for row in rows)
  assert set(rows[0]) <= set(records.UNITS)  # every metric has a unit


@ROWS
def test_nothing_is_compiled_after_the_first_round(name):
  engine = engine_of(name)
  run(name, rounds=3)
  assert engine.trainer.receive._cache_size() == 1
  assert engine.trainer.clients_step._cache_size() == 1
  assert [f._cache_size() for f in engine.aggregation] == [1, 1, 1]


@ROWS
def test_vectorised_clients_equal_one_after_another(name):
  (*_, one), one_rows = run(name, rounds=1)
  (*_, other), other_rows = run(name, rounds=1, chunk=2)
  assert_same(one.server, other.server)
  assert one_rows[0]['uplink/bytes'] == other_rows[0]['uplink/bytes']


@ROWS
def test_the_order_of_clients_does_not_matter(name):
  (*_, one), one_rows = run(name)
  (*_, other), other_rows = run(name, order=[2, 0, 3, 1])
  assert_same(one.server, other.server)
  assert one_rows[-1]['uplink/bytes'] == other_rows[-1]['uplink/bytes']


@ROWS
def test_a_state_that_was_saved_goes_on_alike(name, tmp_path):
  engine, rng = engine_of(name), np.random.default_rng(0)
  cohorts = [toy.cohort(rng, ids) for ids in ([0, 1, 2], IDS)]
  state, *_ = engine.run(engine.init(), cohorts[0], 0)
  path = tmp_path / 'metrics.jsonl'
  recorder = records.Recorder(path, [fake_runs.row(0, 0.5, 1, 1)])
  recorder.close()
  with contextlib.closing(
    checkpoint.Writer(tmp_path, next_round=0)
  ) as checkpoints:
    checkpoints.save(state, 1, {}, recorder.mark)
  blank = jax.tree.map(jnp.zeros_like, jax.eval_shape(engine.init))
  restored = checkpoint.restore(tmp_path, blank, {})
  assert restored
  assert restored.next_round == 1
  again, row, *_ = engine.run(restored.state, cohorts[1], 1)
  straight, expected, *_ = engine.run(state, cohorts[1], 1)
  jax.tree.map(np.testing.assert_array_equal, again, straight)
  for way in ('uplink', 'downlink'):
    assert row[f'{way}/bytes'] == expected[f'{way}/bytes']


class _Tap:
  """What `wire.encode` was asked for, and what it wrote."""

  def __init__(self, monkeypatch):
    self.calls = []
    encode = wire.encode

    def tapped(symbols, side, **address):
      message = encode(symbols, side, **address)
      self.calls.append((symbols, side, address, message))
      return message

    monkeypatch.setattr(wire, 'encode', tapped)


@ROWS
def test_metered_bytes_are_those_of_the_messages(name, monkeypatch):
  tap = _Tap(monkeypatch)
  _, rows = run(name)
  for t, row in enumerate(rows):
    sent = {kind: [] for kind in wire.Kind}
    for _, _, address, message in tap.calls:
      if address['round_idx'] == t:
        sent[address['kind']].append(len(message))
    up, down = sent[wire.Kind.UPLINK], sent[wire.Kind.DOWNLINK]
    assert len(up) == len(IDS)
    assert row['uplink/bytes'] == sum(up)
    assert len(down) == 1  # everybody has the last payload: one for all
    assert row['downlink/bytes'] == len(IDS) * down[0]
    d = engine_of(name).method.network.layout.num_parameters
    assert row['uplink/bpp_wire'] == 8 * sum(up) / (len(IDS) * d)


@ROWS
def test_messages_survive_and_damage_does_not_go_unseen(name, monkeypatch):
  tap = _Tap(monkeypatch)
  run(name)
  rng = np.random.default_rng(1)
  for symbols, side, address, message in tap.calls:
    np.testing.assert_array_equal(
      wire.decode(message, side, **address), symbols
    )
    for position in rng.integers(0, len(message), 5):
      damaged = bytearray(message)
      damaged[position] ^= 1 << int(rng.integers(8))
      with pytest.raises(codecs.WireError):
        wire.decode(bytes(damaged), side, **address)
    with pytest.raises(codecs.WireError):
      wire.decode(message[:-1], side, **address)


@ROWS
def test_what_is_in_no_message_does_not_arrive(name, monkeypatch):
  """The server's next state is a function of what was decoded."""
  decode, engine = wire.decode, engine_of(name)
  (*_, honest), _ = run(name, rounds=1)
  first = {}

  def everyone_like_the_first(message, side, **address):
    symbols = decode(message, side, **address)
    if address['kind'] is wire.Kind.UPLINK:
      return first.setdefault('symbols', symbols)
    return symbols

  monkeypatch.setattr(wire, 'decode', everyone_like_the_first)
  state, *_ = engine.run(
    engine.init(), toy.cohort(np.random.default_rng(0), IDS), 0
  )
  leaves = zip(
    jax.tree.leaves(honest.server), jax.tree.leaves(state.server), strict=True
  )
  assert any((np.asarray(a) != np.asarray(b)).any() for a, b in leaves)


@ROWS
def test_final_model_and_networks_fit(name):
  engine = engine_of(name)
  algorithm = engine.method.algorithm
  d = engine.method.network.layout.num_parameters
  state = engine.init()
  key = jax.random.key(0, impl='threefry4x32')
  model = algorithm.model(state.server, key)
  assert model.shape == (d,)
  assert model.dtype in (np.bool_, np.float32)
  networks = algorithm.eval_params(state.server, key)
  assert 'mean' in networks
  for params in networks.values():
    assert params.shape == (d,)
    assert params.dtype == np.float32


@ROWS
def test_training_that_diverges_ends_the_round(name):
  """An optimiser that gives NaN: no mask, sign or level may hide it."""
  method = toy.named_method(toy.network(), METHODS[name], optax.sgd(jnp.nan))
  engine = toy.engine_of(method)
  cohort = toy.cohort(np.random.default_rng(0), IDS)
  with pytest.raises(FloatingPointError, match=r'Round 1: .*clients \[0, 1, 2'):
    engine.run(engine.init(), cohort, 0)
