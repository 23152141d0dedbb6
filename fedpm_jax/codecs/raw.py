"""Plain arrays, little-endian: 32 bits a float, 16 bits a theta.

They are the baselines that every other code is compared with.  FedAvg sends its
weights like this.
"""

import numpy as np

from fedpm_jax.codecs import base


def _codec(name: str, number: int, symbols: str) -> base.Codec:
  """The codec of one sort of symbols; arguments as of `base.checked`."""
  native = base.DTYPES[symbols]
  little = native.newbyteorder('<')

  def encode(values: np.ndarray, side: base.SideInformation) -> memoryview:
    del side
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
    # A payload may begin at any address; 'A' (aligned) copies it where it must.
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
