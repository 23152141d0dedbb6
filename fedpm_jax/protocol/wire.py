"""Messages: the one door between clients and server.

What is not in these bytes did not arrive.  A message is a header, a codec's
payload and a checksum; all integers are little-endian:

    offset  bytes  field
         0      3  magic, b'FPM'
         3      1  version of this format, 3
         4      1  codec, its number in `fedpm_jax.codecs.CODECS`
         5      1  kind, see `Kind`
         6      4  round_idx
        10      4  client, or EVERYONE
        14      8  layout hash: names and shapes of the L tensors
        22      4  symbol count, d
        26      4  payload length P
        30      4  CRC-32 of the symbols, as `codecs.base.symbol_bytes` has them
        34      P  payload
    34 + P      4  CRC-32 of the payload followed by the header

The last checksum is compared before anything is decoded and finds damage in
transit.  The checksum of the symbols is compared afterwards and finds what the
bytes cannot show: a receiver whose side information (theta, say) is not the
sender's, which would otherwise decode a mask that is silently wrong.  Where the
payload is the symbols' own bytes, both begin with the same sum, and a long
message is summed once at either end.  Neither is a signature: who may write
messages can write valid ones.

The version also stands for what both ends derive and no message holds: the
stream of `fedpm_jax.prng.dithers`.

`decode` needs time and memory in proportion to the d that the receiver
expects, whatever the bytes say.
"""

import enum
import hashlib
import json
import operator
import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from zlib_ng import zlib_ng  # the same CRC-32 as zlib, four times as fast

from fedpm_jax import codecs

MAGIC = b'FPM'
VERSION = 3
EVERYONE = 2**32 - 1  # the client field of a broadcast

_HEADER = struct.Struct('<3sBBBII8sIII')
_CRC = struct.Struct('<I')
_ALIGNMENT = 64  # bytes
OVERHEAD_BYTES = _HEADER.size + _CRC.size
_NAMES = {codec.number: name for name, codec in codecs.CODECS.items()}


class Kind(enum.IntEnum):
  """Which way a message goes.  Part of the format: append only."""

  UPLINK = 1  # from a client to the server
  DOWNLINK = 2  # from the server to a client, or to EVERYONE


class Header(NamedTuple):
  """The header as it was received; only what `peek` checks can be relied on.

  The codec is given by its name, or as '#number' where there is none here.
  """

  codec: str
  kind: int
  round_idx: int
  client: int
  layout_hash: bytes
  symbol_count: int
  payload_bytes: int
  symbols_crc: int


def layout_hash(names: Iterable[str], shapes: Iterable[Iterable[int]]) -> bytes:
  """Eight bytes that stand for the names and shapes of the L tensors.

  Args:
    names: one path a tensor, in the order of the symbols.
    shapes: one shape a tensor, in the same order.

  Returns:
    The first 8 bytes of the SHA-256 of a canonical JSON of both.

  Raises:
    ValueError: there are more of one than of the other.
  """
  layout = [
    [str(name), [int(size) for size in shape]]
    for name, shape in zip(names, shapes, strict=True)
  ]
  text = json.dumps(layout, separators=(',', ':'), ensure_ascii=True)
  return hashlib.sha256(text.encode('ascii')).digest()[:8]


def encode(
  symbols: np.ndarray,
  side: codecs.SideInformation,
  *,
  codec: str,
  kind: Kind,
  round_idx: int,
  client: int,
  layout_hash: bytes,
) -> memoryview:
  """One message.

  Args:
    symbols: what the codec carries, see `codecs.base.DTYPES`, `[d]`.
    side: what the receiver knows too.
    codec: a key of `CODECS`.
    kind: the direction.
    round_idx: 0-based round, in [0, 2^32).
    client: client id in [0, 2^32 - 1), or EVERYONE.
    layout_hash: 8 bytes, see the function of this name.

  Returns:
    The bytes, read-only; OVERHEAD_BYTES more than the payload.  Whoever gets
    them without a copy finds the payload aligned for any use.

  Raises:
    ValueError: symbols, side information or a field are not as above.
  """
  count = sum(side.sizes)
  fields = _fields(codec, kind, round_idx, client, layout_hash, count)
  how = codecs.CODECS[codec]
  payload = how.encode(symbols, side)
  limit = max_payload_bytes(side)
  if len(payload) > limit:
    raise ValueError(
      f'payload: got {len(payload)} B, expected at most {limit}.'
    )
  payload_crc = zlib_ng.crc32(payload)
  head = _HEADER.pack(
    MAGIC,
    VERSION,
    how.number,
    *fields[1:],
    len(payload),
    _symbols_crc(how, symbols, payload_crc),
  )
  message = _with_aligned_payload(OVERHEAD_BYTES + len(payload))
  message[: len(head)] = np.frombuffer(head, np.uint8)
  # Unlike a join of bytes, this lets other threads run meanwhile.
  message[len(head) : -_CRC.size] = np.frombuffer(payload, np.uint8)
  checksum = zlib_ng.crc32(head, payload_crc)
  _CRC.pack_into(message.data, len(message) - _CRC.size, checksum)
  return message.data.toreadonly()


def decode(
  message: bytes | memoryview,
  side: codecs.SideInformation,
  *,
  codec: str,
  kind: Kind,
  round_idx: int,
  client: int,
  layout_hash: bytes,
) -> np.ndarray:
  """The symbols of a message, if it is exactly the one that is expected.

  Args:
    message: the bytes received; they may be anything.
    side: what the receiver knows; d is the sum of `side.sizes`.
    codec: as in `encode`; so are the others.
    kind: the expected direction.
    round_idx: the expected round.
    client: the expected sender (uplink) or addressee (downlink).
    layout_hash: the receiver's own.

  Returns:
    What was encoded, `[d]`; perhaps a read-only view.

  Raises:
    WireError: anything about the bytes is odd; it names the field, what was
      got and what was expected.
    ValueError: the receiver's own arguments are impossible.
  """
  count = sum(side.sizes)
  expected = _fields(codec, kind, round_idx, client, layout_hash, count)
  header = peek(message)
  limit = max_payload_bytes(side)
  if header.payload_bytes > limit:
    raise codecs.WireError(
      f'payload length: got {header.payload_bytes}, expected at most {limit}.'
    )
  payload_crc = _check(message, expected)
  how = codecs.CODECS[codec]
  payload = memoryview(message)[_HEADER.size : -_CRC.size]
  # A long payload that is the symbols' own bytes is not copied.
  payload = payload if how.payload_is_symbols else bytes(payload)
  symbols = how.decode(payload, header.symbol_count, side)
  # Differs where the sender had other side information than the receiver.
  symbols_crc = _symbols_crc(how, symbols, payload_crc)
  _expect('checksum of the symbols', symbols_crc, header.symbols_crc)
  return symbols


def check(
  message: bytes | memoryview,
  symbol_count: int,
  *,
  codec: str,
  kind: Kind,
  round_idx: int,
  client: int,
  layout_hash: bytes,
) -> None:
  """Checks all that shows before decoding: the header and the last checksum.

  For receivers whose side information is expensive: a message that is not the
  expected one is found before that is worked out.

  Args:
    message: the bytes received; they may be anything.
    symbol_count: d, as the receiver expects it.
    codec: as in `decode`; so are the others.

  Raises:
    WireError: as `decode`.
    ValueError: as `decode`.
  """
  _check(
    message,
    _fields(codec, kind, round_idx, client, layout_hash, symbol_count),
  )


def peek(message: bytes | memoryview) -> Header:
  """The header of a message, for receivers that look before they decode.

  Args:
    message: the bytes received.

  Returns:
    The header.  Magic, version and length are checked, nothing else: the
    fields may still be damaged or not what the receiver waits for.

  Raises:
    WireError: one of the three is wrong.
  """
  if len(message) < OVERHEAD_BYTES:
    raise codecs.WireError(
      f'message length: got {len(message)}, expected at least {OVERHEAD_BYTES}.'
    )
  magic, version, number, *fields = _HEADER.unpack_from(message)
  _expect('magic', magic, MAGIC)
  _expect('version', version, VERSION)
  header = Header(_NAMES.get(number, f'#{number}'), *fields)
  length = OVERHEAD_BYTES + header.payload_bytes
  _expect('message length', len(message), length)
  return header


def bpp(message: bytes | memoryview, d: int) -> float:
  """Bits per parameter, everything included: 8 * bytes / d."""
  return 8 * len(message) / d


def max_payload_bytes(side: codecs.SideInformation) -> int:
  """A bound that no codec exceeds: 4 B a parameter, 2 B a tensor, and 64."""
  return 4 * sum(side.sizes) + 2 * len(side.sizes) + 64


def _check(message: bytes | memoryview, expected: tuple) -> int:
  """The checksum of a payload, if the message is whole and as expected."""
  header = peek(message)
  (crc,) = _CRC.unpack_from(message, len(message) - _CRC.size)
  payload_crc = zlib_ng.crc32(memoryview(message)[_HEADER.size : -_CRC.size])
  head = memoryview(message)[: _HEADER.size]
  _expect('checksum', zlib_ng.crc32(head, payload_crc), crc)
  for field, got, want in zip(
    Header._fields[: len(expected)],
    header[: len(expected)],
    expected,
    strict=True,
  ):
    _expect(field, got, want)
  return payload_crc


def _fields(codec, kind, round_idx, client, layout_hash, count) -> tuple:
  """What the first fields of the `Header` must be, from codec to count."""
  if codec not in codecs.CODECS:
    raise ValueError(
      f'codec: got {codec!r}, expected one of {sorted(codecs.CODECS)}.'
    )
  if not isinstance(layout_hash, bytes) or len(layout_hash) != 8:
    raise ValueError(f'layout_hash: got {layout_hash!r}, expected 8 bytes.')
  numbers = {
    'round_idx': operator.index(round_idx),
    'client': operator.index(client),
    'symbol count': count,
  }
  for name, value in numbers.items():
    if not 0 <= value < 2**32:
      raise ValueError(f'{name}: got {value}, expected [0, 2^32).')
  round_idx, client, count = numbers.values()
  return codec, Kind(kind), round_idx, client, layout_hash, count


def _with_aligned_payload(num_bytes: int) -> np.ndarray:
  """Room for a message, uint8, its payload on a 64-byte boundary.

  NumPy copies what is not aligned before it computes with it, and a CPU device
  what is not aligned like this.
  """
  room = np.empty(num_bytes + _ALIGNMENT, np.uint8)
  skipped = -(room.ctypes.data + _HEADER.size) % _ALIGNMENT
  return room[skipped : skipped + num_bytes]


def _symbols_crc(how: codecs.Codec, symbols, payload_crc: int) -> int:
  if how.payload_is_symbols:
    return payload_crc
  return zlib_ng.crc32(codecs.base.symbol_bytes(symbols))


def _expect(field: str, got, expected) -> None:
  """Raises WireError unless both are equal."""
  if got != expected:
    raise codecs.WireError(f'{field}: got {got!r}, expected {expected!r}.')
