"""Indices of a table that both ends have: a fixed number of bits each.

An index that was drawn among candidates of equal standing cannot be compressed,
so the encoder chooses only the width of all indices.  Zeros at the end are left
out.

    1 B   width in bits, that of the largest symbol, in [0, 16]
    4 B   n, the number of symbols up to the last that is not zero
    rest  n numbers of that width, the highest bit first, then zero bits
"""

import struct

import numpy as np

from fedpm_jax.codecs import base

_HEAD = struct.Struct('<BI')


def _encode(symbols: np.ndarray, side: base.SideInformation) -> bytes:
  del side
  used = np.flatnonzero(symbols)
  count = int(used[-1]) + 1 if used.size else 0
  width = int(symbols.max()).bit_length()
  # One row of bits for each symbol, the highest bit first.
  bits = symbols[:count, None] >> np.arange(width)[::-1] & 1
  packed = np.packbits(bits.astype(np.bool_))
  return _HEAD.pack(width, count) + packed.tobytes()


def _decode(
  payload: base.Payload, count: int, side: base.SideInformation
) -> np.ndarray:
  del side
  if len(payload) < _HEAD.size:
    raise base.WireError(
      f'index: payload: got {len(payload)} B, expected at least {_HEAD.size}.'
    )
  width, used = _HEAD.unpack_from(payload)
  if width > 16 or used > count or (not width and used):
    raise base.WireError(
      f'index: width and count: got {width} and {used}, expected at most 16'
      f' and {count}.'
    )
  expected = _HEAD.size + -(-width * used // 8)
  if len(payload) != expected:
    raise base.WireError(
      f'index: payload: got {len(payload)} B, expected {expected}.'
    )
  bits = np.unpackbits(np.frombuffer(payload, np.uint8, offset=_HEAD.size))
  if bits[width * used :].any():
    raise base.WireError('index: padding: got ones, expected zeros.')
  numbers = bits[: width * used].reshape(used, width).astype(np.int64)
  symbols = np.zeros(count, np.uint16)
  symbols[:used] = numbers @ (1 << np.arange(width)[::-1])
  # Each vector has one payload only: no width and no count may be larger than
  # an encoder chooses it.
  canonical = int(symbols.max()).bit_length() == width
  if not canonical or (used and not symbols[used - 1]):
    raise base.WireError('index: is not as short as an encoder writes it.')
  return symbols


INDEX = base.checked(
  name='index', number=10, symbols='index', encode=_encode, decode=_decode
)
