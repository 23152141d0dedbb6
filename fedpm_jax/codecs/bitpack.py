"""One bit a parameter: 8 mask bits to a byte, the first in the highest bit.

This is the order of `numpy.packbits` and of `jax.numpy.packbits`, so a device
may pack the bits before it copies them.  No entropy coder is needed to read it.
"""

import numpy as np

from fedpm_jax.codecs import base


def _encode(mask: np.ndarray, side: base.SideInformation) -> memoryview:
  del side
  return base.symbol_bytes(mask)


def _decode(
  payload: base.Payload, count: int, side: base.SideInformation
) -> np.ndarray:
  del side
  expected = -(-count // 8)
  if len(payload) != expected:
    raise base.WireError(
      f'bitpack: payload: got {len(payload)} B, expected {expected}.'
    )
  # The last byte may have more bits than are left.  They must be zero, so that
  # one mask has one payload only.
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
