"""Whatever scales a client sends: a WireError, or finite sums.

A server adds up a thousand clients, and one of them must not end the run with
an infinity: a message that is refused counts for nothing, one that is accepted
is finite.
"""

import functools
import zlib

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from hypothesis import strategies as st

from fedpm_jax import codecs, compressors, masks
from fedpm_jax.compressors import base
from fedpm_jax.prng import keys
from fedpm_jax.protocol.client import Client
from fedpm_jax.protocol.server import Server

MANY = 1000  # clients
METHODS = toy.methods_table()
KEY = keys.derive(0, keys.Purpose.UPLINK)
# Every compressor whose symbols hold floats, and options that change how far
# scale and change lie apart.
ROWS = {
  'identity': {},
  'terngrad': {},
  'qsgd': {},
  'qsgd 127': {'levels': 127, 'bucket': 100},
  'drive': {},
  'drive 64': {'chunk': 64},
  'eden 0.1': {'bits': 0.1, 'chunk': 256},
  'eden 4': {'bits': 4},
}
EVERY_ROW = pytest.mark.parametrize('row', ROWS)
# Bits of a float32: the largest, infinities, quiet and signalling NaN, -0.0,
# the smallest; the top of the range; any.
PATTERNS = (
  st.sampled_from([0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001])
  | st.sampled_from([0x80000000, 1, 0x80000001, 0xFF7FFFFF])
  | st.integers(0x60000000, 0x7F7FFFFF)
  | st.integers(0, 2**32 - 1)
)


@functools.cache
def made(row):
  """The compressor, its jitted `decompress`, and the highest level."""
  layout = masks.Layout(('a/kernel', 'b/kernel'), ((500,), (700,)), (1, 1))
  compressor = compressors.COMPRESSORS[row.split()[0]](layout, **ROWS[row])
  payload = jnp.zeros(layout.num_parameters, jnp.float32)
  arrive = jax.jit(lambda symbols: compressor.decompress(KEY, symbols, payload))
  one = np.ones(1, np.float32)
  good = (
    not compressor.check(symbols_of(compressor, one, [level]))
    for level in range(256)
  )
  return compressor, arrive, sum(good) - 1


def number_of_scales(compressor):
  if compressor.symbols == 'float32':
    return sum(compressor.sizes)
  return compressor.sizes[0] // 4


def symbols_of(compressor, scales, levels):
  """Symbols with these scales and levels, repeated as often as they fit."""
  scales = np.resize(scales, number_of_scales(compressor))
  if compressor.symbols == 'float32':
    return scales
  rest = np.resize(np.array(levels, np.uint8), sum(compressor.sizes[1:]))
  return np.concatenate([scales.view(np.uint8), rest])


def largest_scale(compressor):
  """The largest float32 that is accepted, by bisection over bit patterns."""
  low, high = 0, 0x7F800000  # 0 is accepted, infinity is not
  while high - low > 1:
    middle = (low + high) // 2
    scale = np.array([middle], np.uint32).view(np.float32)
    if compressor.check(symbols_of(compressor, scale, [0])):
      high = middle
    else:
      low = middle
  return np.array([low], np.uint32).view(np.float32)


def test_every_compressor_with_floats_has_a_row():
  layout = masks.Layout(('a/kernel',), ((500,),), (1,))
  with_floats = {
    name
    for name, make in compressors.COMPRESSORS.items()
    if make(layout).symbols in ('levels', 'float32')
  }
  assert with_floats == {row.split()[0] for row in ROWS}


@EVERY_ROW
@hypothesis.settings(max_examples=60)
@hypothesis.given(patterns=st.lists(PATTERNS, min_size=1, max_size=2))
def test_any_scales_are_refused_or_arrive_finite(row, patterns):
  compressor, arrive, highest = made(row)
  scales = np.array(patterns, np.uint32).view(np.float32)
  symbols = symbols_of(compressor, scales, [0, highest])
  problem = compressor.check(symbols)
  hypothesis.event('refused' if problem else 'accepted')
  if not problem:
    arrived = np.asarray(arrive(symbols))
    assert np.abs(arrived).max() <= base.MAX_CHANGE * 1.0001


@EVERY_ROW
def test_the_largest_scales_of_many_clients_have_a_finite_sum(row):
  """With levels such that as much as possible adds up in one parameter."""
  compressor, arrive, highest = made(row)
  largest = largest_scale(compressor)
  # Far above what training gives.
  assert 1e-6 * base.MAX_CHANGE < largest <= base.MAX_CHANGE
  rng, reached = np.random.default_rng(0), 0.0
  for levels in ([highest], [0], [0, highest], rng.integers(0, 2, 999)):
    symbols = symbols_of(compressor, largest, levels)
    assert not compressor.check(symbols)
    arrived = np.asarray(arrive(symbols))
    reached = max(reached, np.abs(arrived).max())
    total = np.zeros_like(arrived)
    for _ in range(MANY):
      total += arrived  # NumPy warns, and so fails, where this overflows
    assert np.isfinite(total).all()
  assert 1e-3 < reached / base.MAX_CHANGE <= 1.0001


# ------------------------------------------------------------ through a server


@functools.cache
def ends(name):
  method = toy.named_method(toy.network(), METHODS[name])
  server = Server(method, seed=0)
  payload = server.payload(server.init()[0])
  return method, Client(method, seed=0), server, payload


def with_floats(message, method, values):
  """The message with these floats instead, and right checksums."""
  side = codecs.SideInformation(sizes=method.compressor.sizes)
  how = codecs.CODECS[method.uplink]
  if method.compressor.symbols == 'levels':
    symbols = how.decode(bytes(message[34:-4]), sum(side.sizes), side).copy()
    symbols[: method.compressor.sizes[0]] = np.resize(
      values, method.compressor.sizes[0] // 4
    ).view(np.uint8)
    payload = bytes(how.encode(symbols, side))
  else:
    symbols = np.resize(values, sum(side.sizes))
    payload = symbols.tobytes()
  head = bytearray(message[:34])
  head[26:30] = len(payload).to_bytes(4, 'little')
  head[30:34] = zlib.crc32(symbols.tobytes()).to_bytes(4, 'little')
  crc = zlib.crc32(payload + head)
  return bytes(head) + payload + crc.to_bytes(4, 'little')


@pytest.mark.parametrize('name', ['fedavg', 'terngrad', 'qsgd', 'drive'])
def test_one_hostile_client_is_left_out_and_the_round_goes_on(name):
  method, client, server, payload = ends(name)
  rng = np.random.default_rng(0)
  size = method.network.layout.num_parameters
  compress = jax.jit(method.compressor.compress)
  send = functools.partial(client.seal, payload=payload, round_idx=0)
  update = (0.01 * rng.standard_normal(size)).astype(np.float32)

  def good(i):
    key = keys.wrap(server.uplink_keys(i, 0))
    return send(np.asarray(compress(key, update, payload)), client=i)

  def finished(messages):
    total, ids = server.aggregation.start(), []
    for i, message in messages:
      try:
        symbols = server.open(message, payload, client=i, round_idx=0)
      except codecs.WireError:
        continue
      words = server.uplink_keys(i, 0)
      total = server.aggregation.add(total, words, symbols, payload)
      ids.append(i)
    state, _ = server.init()
    state, _ = server.aggregation.finish(state, total, len(ids), np.int32(0))
    return ids, jax.device_get(state)

  honest = [(i, good(i)) for i in range(3)]
  hostile = [
    (i, with_floats(good(i), method, np.array([value], np.float32)))
    for i, value in [(3, 3.4e38), (4, np.inf), (5, np.nan), (6, -3.4e38)]
  ]
  for i, message in hostile:
    with pytest.raises(codecs.WireError, match=r'NaN|scale|change'):
      server.open(message, payload, client=i, round_idx=0)
  _, alone = finished(honest)
  for mixed in (hostile + honest, honest + hostile):
    ids, state = finished(mixed)
    assert ids == [0, 1, 2]
    np.testing.assert_array_equal(state.params, alone.params)
  # What is just accepted stays finite, too.
  largest = largest_scale(method.compressor)
  accepted = with_floats(good(0), method, largest)
  symbols = server.open(accepted, payload, client=0, round_idx=0)
  total, words = server.aggregation.start(), server.uplink_keys(0, 0)
  for _ in range(MANY):
    total = server.aggregation.add(total, words, symbols, payload)
  state, _ = server.init()
  state, info = server.aggregation.finish(state, total, MANY, np.int32(0))
  assert np.isfinite(np.asarray(total)).all()
  # The report too: the engine raises where it is not finite.
  assert np.isfinite(info.step_norm)
  assert np.isfinite(np.asarray(state.params)).all()
