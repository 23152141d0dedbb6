"""The contract of a compressor."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np


class Compressor(NamedTuple):
  """A lossy step between an algorithm's update and the symbols on the wire.

  Both functions have static shapes and are safe under jit and vmap; they share
  nothing but what is named here, so what is not in the symbols (or in what both
  ends know anyway) did not arrive.  A row of `COMPRESSORS` makes one from the
  network's `masks.Layout` and its own options.

  Attributes:
    compress: (key, update `[d]`, payload `[d]`) -> symbols, flat; the payload
      is what the client was sent this round.
    decompress: (key, symbols, payload `[d]`) -> what arrives `[d]`, as the
      server sees it; the key is that of `compress`, known to both ends.
    takes: the sort of its updates `[d]`: 'theta' (uint16, probabilities of a
      mask times 65536), 'mask' (bool) or 'delta' (float32, local minus global
      weights).
    gives: the sort of what arrives, 'mask' or 'delta'.
    symbols: their sort, a key of `codecs.base.DTYPES`.
    sizes: of the symbols' parts, in order; what codecs call tensors.  The first
      part of 'levels' are bytes, see `codecs.levels`.
    sends_mask: whether the symbols are the very mask of weights that arrives;
      its density is reported then.
    shares_key: whether `decompress` needs the key, so that the server must know
      the client's random numbers.
    dithered: whether that mask is `bits16(key) < update`, which the server can
      guess from the key and theta; what the codec 'dither' is for.
    check: (symbols, NumPy) -> why no client can have sent them; empty if one
      can.  Called with what arrived, before `decompress`.
  """

  compress: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  decompress: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  takes: str
  gives: str
  symbols: str
  sizes: tuple[int, ...]
  sends_mask: bool = False
  shares_key: bool = False
  dithered: bool = False
  check: Callable[[np.ndarray], str] = lambda symbols: ''
