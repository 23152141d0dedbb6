"""The contract of a compressor."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np


class Compressor(NamedTuple):
  """A lossy step between an algorithm's update and the symbols on the wire.

  Both functions have static shapes and are safe under jit and vmap; they share
  nothing but what is named here, so what is not in the symbols (or in what both
  ends know anyway) did not arrive.

  Attributes:
    compress: (key, update `[d]`, payload `[d]`) -> symbols; the payload is what
      the client was sent this round.
    decompress: (key, symbols, payload `[d]`) -> update, as the server sees it;
      the key is that of `compress`, known to both ends.
    symbols: their sort, a key of `codecs.base.DTYPES`.
    check: (symbols, NumPy) -> why no client can have sent them; empty if one
      can.  Called with what arrived, before `decompress`.
  """

  compress: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  decompress: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  symbols: str
  check: Callable[[np.ndarray], str] = lambda symbols: ''
