"""Plain arrays, little-endian: 32 bits a float, 16 bits a theta.

The baselines that every other code is compared with, and FedAvg's wire.
"""

import numpy as np

from fedpm_jax.codecs import base


def _codec(name: str, number: int, symbols: str) -> base.Codec:
  native = base.DTYPES[symbols]
  little = native.newbyteorder('<')

  def encode(values: np.ndarray, side: base.SideInformation) -> memoryview:
    del side  # the dtype says it all
    return base.symbol_bytes(values)

  def decode(
    payload: base.Payload, count: int, side: base.SideInformation
  ) -> np.ndarray:
    del side
    expected = count * little.itemsize
    if len(payload) != expected:
      raise base.WireError(
        f'{name}: payload: got {len(payload)} B, expected {expected}.'
      )
    # Bytes of a network may begin anywhere; they are copied once, here.
    return np.require(np.frombuffer(payload, little), native, 'A')

  return base.checked(
    name=name,
    number=number,
    symbols=symbols,
    encode=encode,
    decode=decode,
    payload_is_symbols=True,
  )


RAW = _codec('raw', 1, 'float32')
THETA_RAW = _codec('theta_raw', 6, 'theta')
