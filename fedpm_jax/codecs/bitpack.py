"""One bit a parameter: 8 mask bits to a byte, the first in the highest bit.

`numpy.packbits` order, which is also that of `jax.numpy.packbits`, so that a
device may pack before it copies.  No entropy coder is needed to read it.
"""

import numpy as np

from fedpm_jax.codecs import base


def _encode(mask: np.ndarray, side: base.SideInformation) -> memoryview:
  del side  # nothing but the bits
  return base.symbol_bytes(mask)


def _decode(
  payload: bytes, count: int, side: base.SideInformation
) -> np.ndarray:
  del side
  expected = -(-count // 8)
  if len(payload) != expected:
    raise base.WireError(
      f'bitpack: payload: got {len(payload)} B, expected {expected}.'
    )
  bits = np.unpackbits(np.frombuffer(payload, np.uint8))
  if bits[count:].any():
    raise base.WireError('bitpack: padding bits: got a one, expected zeros.')
  return bits[:count].astype(np.bool_)


BITPACK = base.checked(
  name='bitpack',
  number=2,
  symbols='mask',
  encode=_encode,
  decode=_decode,
  payload_is_symbols=True,
)
