"""Laws that every codec obeys: a new row of CODECS is tested here unchanged.

Round trips on adversarial inputs, and what happens to bytes and arguments that
are not what they should be.
"""

import struct

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedpm_jax import codecs
from fedpm_jax.codecs import base, dither
from fedpm_jax.protocol import wire

LENGTHS = (0, 1, 7, 8, 9, 1000)
ROWS = pytest.mark.parametrize(
  'codec', codecs.CODECS.values(), ids=lambda c: c.name
)
QUICK = hypothesis.settings(max_examples=40, deadline=None)


def sizes_of(d):
  """Three tensors, one of them empty where d is small."""
  return (d // 2, d // 7, d - d // 2 - d // 7)


def thetas(d):
  """Adversarial thetas, uint16 [d] in [1, 65535]."""
  rng = np.random.default_rng(d)
  return {
    'lowest': np.full(d, 1, np.uint16),
    'highest': np.full(d, 65535, np.uint16),
    'both ends': np.resize(np.array([1, 65535], np.uint16), d),
    'any': rng.integers(1, 65536, d).astype(np.uint16),
    'counts of 10': np.clip(
      rng.integers(0, 11, d) * 65536 // 10, 1, 65535
    ).astype(np.uint16),
  }


def side_of(q, sizes):
  """Everything that any codec may ask for, the guess and the context random."""
  d = len(q)
  rng = np.random.default_rng(d)
  guess = dither.guess(q, rng.integers(0, 65536, d).astype(np.uint16))
  context = rng.integers(0, 7, d).astype(np.uint8)
  return base.SideInformation(q, sizes, guess, base.Expected(q, context))


def symbols_of(codec, d, q):
  """Adversarial symbols of the codec's sort, given the theta of both ends."""
  rng = np.random.default_rng(d)
  bits16 = rng.integers(0, 65536, d)
  return {
    'mask': lambda: {
      'zeros': np.zeros(d, np.bool_),
      'ones': np.ones(d, np.bool_),
      'likely': bits16 < q,
      'fair': bits16 < 32768,
      'improbable': q < 32768,
    },
    'theta': lambda: thetas(d),
    'index': lambda: thetas(d) | {'zeros': np.zeros(d, np.uint16)},
    'levels': lambda: {
      'zeros': np.zeros(d, np.uint8),
      'both ends': np.resize(np.array([0, 255], np.uint8), d),
      'any': rng.integers(0, 256, d).astype(np.uint8),
      'few': rng.binomial(14, 0.5, d).astype(np.uint8),
      'parts apart': (q >> 13).astype(np.uint8)
      + np.uint8(90) * (d // 2 > np.arange(d)),
    },
    'float32': lambda: {
      'zeros': np.zeros(d, np.float32),
      'normal': rng.standard_normal(d).astype(np.float32),
      'extreme': np.resize(
        np.array([-0.0, 1e-45, -3.4028235e38, 1.1754944e-38], np.float32), d
      ),
    },
  }[codec.symbols]()


def case(codec, d, *, q='any', symbols=None):
  """One (symbols, side) for tests that need no more than one."""
  side = side_of(thetas(d)[q], sizes_of(d))
  options = symbols_of(codec, d, side.q)
  return options[symbols or list(options)[-2]], side


def assert_same(got, want):
  assert got.dtype == want.dtype
  assert got.shape == want.shape
  # Bytes, because -0.0 == 0.0.
  assert got.tobytes() == want.tobytes()


def decode_or_wire_error(codec, payload, d, side):
  """The symbols, valid if perhaps not those sent; None after a WireError."""
  try:
    symbols = codec.decode(payload, d, side)
  except codecs.WireError:
    return None
  assert symbols.dtype == base.DTYPES[codec.symbols]
  assert symbols.shape == (d,)
  return symbols


def test_symbol_bytes_by_the_struct_module():
  floats = np.array([1.5, -0.0, 3e-9], '>f4')  # of a foreign machine
  assert base.symbol_bytes(floats) == struct.pack('<3f', 1.5, -0.0, 3e-9)
  every_other = np.arange(1, 7, dtype=np.uint16)[::2]
  assert base.symbol_bytes(every_other) == struct.pack('<3H', 1, 3, 5)
  bits = np.array([1, 0, 0, 0, 0, 0, 0, 1, 1], np.bool_)
  assert base.symbol_bytes(bits) == bytes([0b10000001, 0b10000000])


def test_table_is_consistent():
  numbers = [codec.number for codec in codecs.CODECS.values()]
  assert [codec.name for codec in codecs.CODECS.values()] == list(codecs.CODECS)
  assert len(set(numbers)) == len(numbers)
  assert all(1 <= number <= 255 for number in numbers)
  assert all(codec.symbols in base.DTYPES for codec in codecs.CODECS.values())


@ROWS
@pytest.mark.parametrize('d', LENGTHS)
def test_round_trip_on_adversarial_inputs(codec, d):
  for q in thetas(d).values():
    side = side_of(q, sizes_of(d))
    for symbols in symbols_of(codec, d, q).values():
      payload = bytes(codec.encode(symbols, side))
      if codec.payload_is_symbols:
        assert payload == base.symbol_bytes(symbols)
      assert_same(codec.decode(payload, d, side), symbols)


@ROWS
@QUICK
@hypothesis.given(data=st.data())
def test_round_trip_on_random_inputs(codec, data):
  sizes = tuple(data.draw(st.lists(st.integers(0, 40), max_size=5)))
  d = sum(sizes)
  uint16 = st.lists(st.integers(1, 65535), min_size=d, max_size=d)
  values = {
    'mask': st.lists(st.booleans(), min_size=d, max_size=d),
    'theta': uint16,
    'index': st.lists(st.integers(0, 300), min_size=d, max_size=d),
    'levels': st.lists(
      st.integers(0, data.draw(st.sampled_from([2, 14, 255]))),
      min_size=d,
      max_size=d,
    ),
    'float32': st.lists(
      st.floats(width=32, allow_nan=False, allow_infinity=False),
      min_size=d,
      max_size=d,
    ),
  }[codec.symbols]
  symbols = np.array(data.draw(values), base.DTYPES[codec.symbols])
  side = side_of(np.array(data.draw(uint16), np.uint16), sizes)
  payload = codec.encode(symbols, side)
  assert_same(codec.decode(payload, d, side), symbols)


@pytest.mark.parametrize('name', ['theta_raw', 'theta_levels'])
def test_every_theta_survives(name):
  theta = np.arange(1, 65536, dtype=np.uint16)
  side = base.SideInformation(sizes=(65535,))
  payload = codecs.CODECS[name].encode(theta, side)
  assert_same(codecs.CODECS[name].decode(payload, 65535, side), theta)


def test_prior_survives_every_q():
  q = np.repeat(np.arange(1, 65536, dtype=np.uint16), 2)
  mask = np.resize([False, True], q.size)
  side = base.SideInformation(q, (q.size,))
  payload = codecs.CODECS['prior'].encode(mask, side)
  assert_same(codecs.CODECS['prior'].decode(payload, q.size, side), mask)


@ROWS
def test_no_codec_exceeds_the_payload_limit(codec):
  for d in (0, 1, 1000):
    sizes = (d,) + (0,) * 50
    q = np.full(d, 1, np.uint16)
    symbols = {
      'mask': np.ones(d, np.bool_),
      'theta': np.arange(d, dtype=np.uint16) + np.uint16(1),
      'index': np.full(d, 65535, np.uint16),
      'levels': np.full(d, 255, np.uint8),
      'float32': np.ones(d, np.float32),
    }[codec.symbols]
    side = side_of(q, sizes)
    payload = codec.encode(symbols, side)
    assert len(payload) <= wire.max_payload_bytes(side)


@ROWS
def test_every_truncation_is_harmless(codec):
  symbols, side = case(codec, 40)
  payload = bytes(codec.encode(symbols, side))
  for length in range(len(payload)):
    got = decode_or_wire_error(codec, payload[:length], 40, side)
    if codec.name in ('raw', 'bitpack', 'theta_raw', 'index'):
      assert got is None  # their length is known


@ROWS
def test_extension_is_refused(codec):
  symbols, side = case(codec, 40)
  payload = bytes(codec.encode(symbols, side))
  # A range coder cannot tell one word too many from its tail, three it can.
  for extra in (b'\0', b'\1', b'\0' * 12, b'\xff' * 12):
    with pytest.raises(codecs.WireError):
      codec.decode(payload + extra, 40, side)
  with pytest.raises(codecs.WireError):
    codec.decode(b'\0', 0, side_of(np.zeros(0, np.uint16), (0,)))


@ROWS
def test_every_damaged_byte_is_harmless(codec):
  symbols, side = case(codec, 24)
  payload = codec.encode(symbols, side)
  for position in range(len(payload)):
    for flip in (1, 2, 16, 128, 255):
      damaged = bytearray(payload)
      damaged[position] ^= flip
      decode_or_wire_error(codec, bytes(damaged), 24, side)


@ROWS
@QUICK
@hypothesis.given(payload=st.binary(max_size=200), d=st.sampled_from(LENGTHS))
def test_any_bytes_are_harmless(codec, payload, d):
  decode_or_wire_error(codec, payload, d, case(codec, d)[1])


@QUICK
@hypothesis.given(
  form=st.sampled_from([0, 1, 4, 5]),
  head=st.lists(st.integers(0, 9), max_size=20),
  tail=st.binary(max_size=24),
)
def test_any_table_of_levels_is_harmless(form, head, tail):
  """Random bytes rarely get past the form and the number of levels."""
  codec = codecs.CODECS['theta_levels']
  side = base.SideInformation(sizes=(3, 0, 6))
  decode_or_wire_error(codec, bytes([form, *head]) + tail, 9, side)


@QUICK
@hypothesis.given(
  form=st.sampled_from([1, 2]),
  table=st.lists(st.integers(0, 5), max_size=12),
  tail=st.binary(max_size=24),
)
def test_any_table_behind_scales_is_harmless(form, table, tail):
  codec = codecs.CODECS['levels']
  side = base.SideInformation(sizes=(2, 3, 0, 6))
  payload = bytes([form, 7, 7, *table]) + tail
  decode_or_wire_error(codec, payload, 11, side)


@ROWS
def test_callers_mistakes_are_not_wire_errors(codec):
  symbols, side = case(codec, 9)
  payload = codec.encode(symbols, side)
  wrong_dtype = symbols.astype(np.int64)
  for mistake in (
    lambda: codec.encode(wrong_dtype, side),
    lambda: codec.encode(list(symbols), side),
    lambda: codec.encode(symbols.reshape(3, 3), side),
    lambda: codec.encode(symbols[:8], side),
    lambda: codec.encode(symbols, side._replace(sizes=())),
    lambda: codec.encode(symbols, side._replace(sizes=(10, -1))),
    lambda: codec.decode(payload, 8, side),
  ):
    with pytest.raises(ValueError) as caught:
      mistake()
    assert not isinstance(caught.value, codecs.WireError)


@pytest.mark.parametrize(
  'q',
  [
    None,
    np.ones(8, np.uint16),
    np.ones(9, np.int32),
    np.zeros(9, np.uint16),
    np.ones(9, np.float32) / 2,
  ],
  ids=['none', 'short', 'int32', 'zero', 'float'],
)
def test_prior_refuses_a_wrong_q(q):
  side = base.SideInformation(q, (9,))
  with pytest.raises(ValueError, match=r'side\.q'):
    codecs.CODECS['prior'].encode(np.ones(9, np.bool_), side)
  with pytest.raises(ValueError, match=r'side\.q'):
    codecs.CODECS['prior'].decode(b'', 9, side)


@pytest.mark.parametrize(
  ('name', 'symbols'),
  [
    ('raw', np.array([1.0, np.nan], np.float32)),
    ('raw', np.array([3e38, np.nan, 3e38], np.float32)),
    ('raw', np.array([-np.inf, 0.0], np.float32)),
    ('theta_raw', np.array([1, 0], np.uint16)),
    ('theta_levels', np.array([0, 3], np.uint16)),
  ],
)
def test_values_out_of_range_are_refused_at_both_ends(name, symbols):
  side = base.SideInformation(sizes=(2,))
  with pytest.raises(ValueError, match='got') as caught:
    codecs.CODECS[name].encode(symbols, side)
  assert not isinstance(caught.value, codecs.WireError)
  # theta_levels: form 2, one level, the level 0, twice; then raw values.
  front = b'\2\1\0\2' if name == 'theta_levels' else b''
  payload = front + symbols.astype(symbols.dtype.newbyteorder('<')).tobytes()
  with pytest.raises(codecs.WireError, match='got'):
    codecs.CODECS[name].decode(payload, 2, side)


@pytest.mark.parametrize(
  ('name', 'd', 'payload', 'message'),
  [
    ('bitpack', 7, b'\x01', 'padding'),
    ('frequency', 2, b'\1', 'payload'),
    ('index', 2, b'\1', 'payload'),
    ('index', 2, b'\x11\0\0\0\0', 'width and count'),
    ('index', 2, b'\1\3\0\0\0\0', 'width and count'),
    ('index', 2, b'\0\1\0\0\0', 'width and count'),
    ('index', 2, b'\1\1\0\0\0\0\0', 'payload'),
    ('index', 2, b'\1\1\0\0\0\xc0', 'padding'),
    ('index', 2, b'\2\1\0\0\0\x40', 'as short'),
    ('index', 2, b'\1\2\0\0\0\x80', 'as short'),
    ('levels', 2, b'\1', 'payload'),
    ('levels', 2, b'\3\0\0', 'form'),
    ('levels', (1, 2), b'\0\0\1', 'raw'),
    ('levels', (1, 2), b'\1\0\5', 'lowest'),
    ('levels', (1, 2), b'\1\0\5\4\2', 'lowest'),
    ('levels', 2, b'\1\0\0\5\5\0', 'lowest'),
    ('levels', (1, 2), b'\1\0\5\6\1', 'varint'),
    ('levels', (1, 2), b'\1\0\5\6\2\0', 'add up'),
    ('levels', (1, 2), b'\1\0\5\6\1\2', 'add up'),
    ('levels', (1, 2, 3), b'\2\0\5\6\1\2\1\1', 'add up'),
    (
      'levels',
      (1, 2),
      b'\1\0\5\6\1\1' + 4 * b'\0',
      'not those of the levels',
    ),
    ('frequency', 2, b'\0\0' + 4 * b'\0', 'frequency: got 0'),
    ('frequency', 2, b'\2\0' + 4 * b'\0', 'not that of the mask'),
    ('frequency', 2, b'\1\0' + 3 * b'\0', 'multiple of 4'),
    ('theta_levels', 2, b'', 'form'),
    ('theta_levels', 2, b'\3\1\0\2', 'form'),
    ('theta_levels', 2, b'\0', 'varint'),
    ('theta_levels', 2, b'\0\x80', 'varint'),
    ('theta_levels', 2, b'\0\0', 'levels'),
    ('theta_levels', 2, b'\0\3', 'levels'),
    ('theta_levels', 2, b'\0\1\5\1', 'add up'),
    ('theta_levels', 2, b'\0\2\5\0\2\0', 'add up'),
    ('theta_levels', 2, b'\1\1\x80\2\2', 'below 256'),
    ('theta_levels', 2, b'\1\1\0\2\7', 'low bytes'),
    (
      'theta_levels',
      2,
      b'\0\2\5\0\1\1' + 4 * b'\0',
      'not those of the symbols',
    ),
    ('theta_levels', 2, b'\0\x81\0\5\2', 'too long'),
  ],
)
def test_odd_payloads_name_what_is_odd(name, d, payload, message):
  sizes = d if isinstance(d, tuple) else (d,)
  side = base.SideInformation(sizes=sizes)
  with pytest.raises(codecs.WireError, match=message):
    codecs.CODECS[name].decode(payload, sum(sizes), side)


def test_theta_levels_without_a_stream_is_the_level():
  side = base.SideInformation(sizes=(2,))
  theta = codecs.CODECS['theta_levels'].decode(b'\0\1\5\2', 2, side)
  np.testing.assert_array_equal(theta, [5, 5])


def test_finite_numbers_whose_squares_are_not_are_fine():
  values = np.array([3e38, -3e38, 1.0], np.float32)
  side = codecs.SideInformation(sizes=(3,))
  payload = codecs.CODECS['raw'].encode(values, side)
  np.testing.assert_array_equal(
    codecs.CODECS['raw'].decode(payload, 3, side), values
  )
