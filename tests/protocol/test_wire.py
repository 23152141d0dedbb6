"""The one door: what it lets through, and that it lets nothing else through."""

import struct
import tracemalloc
import zlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedpm_jax import codecs
from fedpm_jax.codecs import dither, rangecoder
from fedpm_jax.protocol import wire

D = 20
SIZES = (12, 0, 8)
HASH = wire.layout_hash(['a', 'b', 'c'], [(3, 4), (0,), (8,)])
ROWS = pytest.mark.parametrize('codec', list(codecs.CODECS))


def side_of(q, sizes):
  """Everything that any codec may ask for."""
  dithers = np.random.default_rng(2).integers(0, 65536, q.size).astype('u2')
  guess = dither.guess(q, dithers)
  expected = codecs.base.Expected(q // 2 + 1, np.zeros(q.size, np.uint8))
  return codecs.SideInformation(q, sizes, guess, expected)


def case(codec, d=D, sizes=SIZES):
  """(symbols, side) for a codec."""
  rng = np.random.default_rng(1)
  q = rng.integers(1, 65536, d).astype(np.uint16)
  symbols = {
    'mask': rng.integers(0, 65536, d) < q,
    'theta': q,
    'index': q % np.uint16(128),
    'levels': (q % 15).astype(np.uint8),
    'float32': rng.standard_normal(d).astype(np.float32),
  }[codecs.CODECS[codec].symbols]
  return symbols, side_of(q, sizes)


def fields(codec='prior', **changes):
  address = {'kind': wire.Kind.UPLINK, 'round_idx': 258, 'client': 3}
  return address | {'codec': codec, 'layout_hash': HASH} | changes


def seal(body):
  """A body with the right last checksum: what a hostile sender would do."""
  body = bytes(body)
  return body + struct.pack('<I', zlib.crc32(body[34:] + body[:34]))


def assert_same(got, want):
  assert got.dtype == want.dtype
  assert got.tobytes() == want.tobytes()


@ROWS
@pytest.mark.parametrize('d', [0, 1, 7, 8, 9, 1000])
def test_round_trip(codec, d):
  symbols, side = case(codec, d, (d,))
  message = wire.encode(symbols, side, **fields(codec))
  assert_same(wire.decode(message, side, **fields(codec)), symbols)
  payload = codecs.CODECS[codec].encode(symbols, side)
  assert len(message) == len(payload) + wire.OVERHEAD_BYTES


def test_header_byte_by_byte():
  symbols, side = case('bitpack')
  message = wire.encode(symbols, side, **fields('bitpack'))
  payload = codecs.CODECS['bitpack'].encode(symbols, side)
  assert message[:3] == b'FPM'
  assert message[3:6] == bytes([3, codecs.CODECS['bitpack'].number, 1])
  assert message[6:10] == b'\2\1\0\0'
  assert message[10:14] == b'\3\0\0\0'
  assert message[14:22] == HASH
  assert message[22:26] == b'\x14\0\0\0'
  assert message[26:30] == struct.pack('<I', len(payload))
  assert message[30:34] == struct.pack('<I', zlib.crc32(payload))
  assert message[34:-4] == payload
  assert message == seal(message[:-4])
  assert wire.OVERHEAD_BYTES == 38


def test_golden_message():
  side = codecs.SideInformation(sizes=(12,))
  mask = np.array([1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0], np.bool_)
  message = wire.encode(
    mask,
    side,
    codec='bitpack',
    kind=wire.Kind.DOWNLINK,
    round_idx=7,
    client=wire.EVERYONE,
    layout_hash=wire.layout_hash(['conv/kernel'], [(3, 4)]),
  )
  assert message.hex() == (
    '46504d03020207000000ffffffff2b93868e634d30d5'
    '0c0000000200000017927d6a9ae0d93cd481'
  )


@ROWS
def test_every_damaged_byte_is_detected(codec):
  symbols, side = case(codec)
  message = wire.encode(symbols, side, **fields(codec))
  for position in range(len(message)):
    for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
      damaged = bytearray(message)
      damaged[position] ^= flip
      with pytest.raises(codecs.WireError):
        wire.decode(bytes(damaged), side, **fields(codec))


@ROWS
def test_every_sealed_damage_is_detected_or_without_effect(codec):
  """As above behind the first checksum, so that the inner checks must work."""
  symbols, side = case(codec)
  body = bytes(wire.encode(symbols, side, **fields(codec))[:-4])
  survivors = 0
  for position in range(len(body)):
    for flip in (1, 128, 255):
      damaged = bytearray(body)
      damaged[position] ^= flip
      try:
        got = wire.decode(seal(damaged), side, **fields(codec))
      except codecs.WireError:
        continue
      assert_same(got, symbols)
      survivors += 1
  # The tail of a range coder has slack; nothing else has.
  assert survivors <= 3 * 8


@ROWS
def test_every_truncation_and_extension_is_detected(codec):
  symbols, side = case(codec)
  message = wire.encode(symbols, side, **fields(codec))
  for length in range(len(message)):
    with pytest.raises(codecs.WireError):
      wire.decode(message[:length], side, **fields(codec))
  for extra in (b'\0', b'\0\0\0\0', b'\xff' * 5, message):
    with pytest.raises(codecs.WireError, match='message length'):
      wire.decode(bytes(message) + extra, side, **fields(codec))


OTHER_HASH = wire.layout_hash(['a', 'b', 'c'], [(4, 3), (0,), (8,)])


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('codec', 'frequency', "got 'frequency', expected 'prior'."),
    ('kind', wire.Kind.DOWNLINK, 'got 2, expected <Kind.UPLINK: 1>.'),
    ('round_idx', 259, 'got 259, expected 258.'),
    ('client', 4, 'got 4, expected 3.'),
    ('client', wire.EVERYONE, 'got 4294967295, expected 3.'),
    ('layout_hash', OTHER_HASH, f'got {OTHER_HASH!r}, expected {HASH!r}.'),
  ],
)
def test_an_unexpected_field_is_named(field, value, message):
  symbols, side = case('prior')
  sent = fields(**{field: value})
  data = wire.encode(symbols, side, **sent)
  assert_same(wire.decode(data, side, **sent), symbols)
  with pytest.raises(codecs.WireError) as caught:
    wire.decode(data, side, **fields())
  assert str(caught.value) == f'{field}: {message}'


@pytest.mark.parametrize(
  ('offset', 'value', 'message'),
  [
    (0, b'XPM', "magic: got b'XPM', expected b'FPM'"),
    (3, b'\1', 'version: got 1, expected 3'),
    (4, b'\xee', "codec: got '#238', expected 'prior'"),
    (5, b'\3', 'kind: got 3'),
    (22, b'\xff\xff\xff\xff', 'count: got 4294967295, expected 20'),
    (26, b'\xff\xff\xff\xff', 'message length'),
    (30, b'\0\0\0\0', 'checksum of the symbols: got'),
  ],
)
def test_a_sealed_lie_is_named(offset, value, message):
  symbols, side = case('prior')
  body = bytearray(wire.encode(symbols, side, **fields())[:-4])
  body[offset : offset + len(value)] = value
  with pytest.raises(codecs.WireError) as caught:
    wire.decode(seal(body), side, **fields())
  assert message in str(caught.value)


def test_an_oversized_payload_is_refused_unread():
  symbols, side = case('prior')
  body = bytes(wire.encode(symbols, side, **fields())[:-4])
  payload = bytes(10_000)
  body = body[:26] + struct.pack('<I', 10_000) + body[30:34] + payload
  with pytest.raises(codecs.WireError, match='payload length: got 10000'):
    wire.decode(seal(body), side, **fields())


def test_other_sizes_are_detected():
  symbols, side = case('per_tensor')
  message = wire.encode(symbols, side, **fields('per_tensor'))
  for sizes in ((8, 0, 12), (20,), (12, 0, 8, 0)):
    other = side._replace(sizes=sizes)
    with pytest.raises(codecs.WireError):
      wire.decode(message, other, **fields('per_tensor'))
  other = side._replace(sizes=(12, 0, 9))
  with pytest.raises(codecs.WireError, match='count: got 20, expected 21'):
    wire.decode(message, other, **fields('per_tensor'))


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**32), change=st.sampled_from([1, D]))
def test_another_theta_never_gives_another_mask(seed, change):
  rng = np.random.default_rng(seed)
  symbols, side = case('prior')
  message = wire.encode(symbols, side, **fields())
  q = side.q.copy()
  q[rng.permutation(D)[:change]] = rng.integers(1, 65536, change)
  try:
    got = wire.decode(message, side._replace(q=q), **fields())
  except codecs.WireError:
    return
  assert_same(got, symbols)


@pytest.mark.parametrize('stream_is_checked', [True, False])
def test_a_theta_that_is_off_by_one_is_detected(monkeypatch, stream_is_checked):
  """The end of the stream tells already; the checksum must tell alone."""
  if not stream_is_checked:
    monkeypatch.setattr(rangecoder.Reader, 'finish', lambda self: None)
  symbols, side = case('prior', 5000, (5000,))
  message = wire.encode(symbols, side, **fields())
  for step in (1, -1):
    q = np.clip(side.q.astype(np.int64) + step, 1, 65535).astype(np.uint16)
    with pytest.raises(codecs.WireError):
      wire.decode(message, side._replace(q=q), **fields())


@ROWS
@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(data=st.data())
def test_any_bytes_give_a_wire_error(codec, data):
  """Random bytes: bare, behind a valid header, and with valid checksums."""
  symbols, side = case(codec)
  message = bytes(wire.encode(symbols, side, **fields(codec)))
  noise = data.draw(st.binary(max_size=120))
  for attack in (
    noise,
    message[:34] + noise,
    seal(message[:26] + struct.pack('<I', len(noise)) + message[30:34] + noise),
  ):
    try:
      got = wire.decode(attack, side, **fields(codec))
    except codecs.WireError:
      continue
    assert_same(got, symbols)


@ROWS
def test_hostile_bytes_allocate_nothing_of_note(codec):
  """Numbers in a message never set the size of an allocation."""
  symbols, side = case(codec)
  body = bytes(wire.encode(symbols, side, **fields(codec))[:-4])
  attacks = []
  for payload in (
    b'\xff' * 40,
    b'\0\xff\xff\xff\xff\x7f' + b'\x80' * 40,
    b'\0\x14' + b'\xff\xff\xff\xff\x7f' * 12,
    b'\4\x14' + b'\x7f' * 100,
  ):
    head = body[:26] + struct.pack('<I', len(payload)) + body[30:34]
    attacks.append(seal(head + payload))
  for offset in (22, 26):
    lie = bytearray(body)
    lie[offset : offset + 4] = b'\xff\xff\xff\x7f'
    attacks.append(seal(lie))
  tracemalloc.start()
  try:
    for attack in attacks:
      with pytest.raises(codecs.WireError):
        wire.decode(attack, side, **fields(codec))
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 2**20


@ROWS
def test_a_payload_is_aligned_and_nobody_writes_to_it(codec):
  symbols, side = case(codec)
  message = wire.encode(symbols, side, **fields(codec))
  assert message.readonly
  payload = np.frombuffer(message, np.uint8)[wire.OVERHEAD_BYTES - 4 :]
  assert payload.ctypes.data % 64 == 0


@pytest.mark.parametrize('codec', ['raw', 'theta_raw'])
@pytest.mark.parametrize('shift', range(5))
def test_plain_arrays_are_aligned_wherever_bytes_came_to_lie(codec, shift):
  symbols, side = case(codec)
  message = wire.encode(symbols, side, **fields(codec))
  anywhere = memoryview(bytes(shift) + message)[shift:]
  got = wire.decode(anywhere, side, **fields(codec))
  assert got.flags.aligned
  assert_same(got, symbols)


def test_peek():
  symbols, side = case('prior')
  message = wire.encode(symbols, side, **fields())
  header = wire.peek(message)
  assert header[:6] == ('prior', wire.Kind.UPLINK, 258, 3, HASH, D)
  assert header.payload_bytes == len(message) - wire.OVERHEAD_BYTES
  for bad in (b'', message[:37], message[:-1], b'G' + message[1:]):
    with pytest.raises(codecs.WireError):
      wire.peek(bad)


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(st.binary(max_size=80))
def test_peek_at_any_bytes(noise):
  for message in (noise, b'FPM\1' + noise):
    try:
      header = wire.peek(message)
    except codecs.WireError:
      continue
    assert header.payload_bytes == len(message) - wire.OVERHEAD_BYTES


def test_numpy_integers_are_integers():
  """keys.cohort gives int32 ids."""
  symbols, side = case('prior')
  numpy = fields(round_idx=np.int64(258), client=np.int32(3))
  assert wire.encode(symbols, side, **numpy) == wire.encode(
    symbols, side, **fields()
  )


@pytest.mark.parametrize(
  'change',
  [
    {'codec': 'prier'},
    {'kind': 9},
    {'round_idx': -1},
    {'round_idx': 2**32},
    {'client': 2**32},
    {'layout_hash': b'short'},
    {'layout_hash': 'a string'},
  ],
  ids=str,
)
def test_callers_mistakes_are_not_wire_errors(change):
  symbols, side = case('prior')
  message = wire.encode(symbols, side, **fields())
  for mistake in (
    lambda: wire.encode(symbols, side, **fields() | change),
    lambda: wire.decode(message, side, **fields() | change),
  ):
    with pytest.raises(ValueError) as caught:
      mistake()
    assert not isinstance(caught.value, codecs.WireError)


def test_a_codec_that_outgrows_the_limit_is_found_by_its_sender(monkeypatch):
  bloated = codecs.CODECS['prior']._replace(encode=lambda *_: bytes(10_000))
  monkeypatch.setitem(codecs.CODECS, 'prior', bloated)
  symbols, side = case('prior')
  with pytest.raises(ValueError, match='payload: got 10000'):
    wire.encode(symbols, side, **fields())


def test_layout_hash():
  golden = wire.layout_hash(['conv/kernel', 'dense/kernel'], [(3, 3, 1), (5,)])
  assert golden.hex() == 'c7c7cd4281754d69'
  others = [
    (['conv/kernel', 'dense/kernel'], [(3, 3, 1), (6,)]),
    (['conv/kernel', 'dense/kernel'], [(3, 3), (5,)]),
    (['dense/kernel', 'conv/kernel'], [(3, 3, 1), (5,)]),
    (['conv/kernel', 'dense/bias'], [(3, 3, 1), (5,)]),
    (['conv/kernel'], [(3, 3, 1)]),
    ([], []),
  ]
  hashes = {wire.layout_hash(*other) for other in others} | {golden}
  assert len(hashes) == len(others) + 1
  assert all(len(value) == 8 for value in hashes)
  with pytest.raises(ValueError):
    wire.layout_hash(['a'], [])


def test_bpp_counts_every_byte():
  symbols, side = case('bitpack', 1000, (1000,))
  message = wire.encode(symbols, side, **fields('bitpack'))
  assert wire.bpp(message, 1000) == 8 * (125 + 38) / 1000
