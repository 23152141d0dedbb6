"""The contract of a compressor."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

# The most by which a client can change a weight.  Sums of a hundred million such
# changes are finite in float32, and so is the norm of 2^27 of them, which the
# server reports: no client can end a run with an infinity.  Honest training
# never comes near: `algorithms.local` finds far earlier that it has diverged.
MAX_CHANGE = 1e15


class Compressor(NamedTuple):
  """A lossy step between an algorithm's update and the symbols on the wire.

  Both functions have static shapes and are safe under jit and vmap.  They share
  nothing but what is named here: what is neither in the symbols nor known to
  both ends anyway did not arrive.  A row of `COMPRESSORS` makes a compressor
  from the network's `masks.Layout` and the compressor's own options.

  Attributes:
    compress: (key, update `[d]`, payload `[d]`) -> symbols, flat; the payload
      is what the client was sent this round.
    decompress: (key, symbols, payload `[d]`) -> what arrives `[d]`, as the
      server sees it; both ends know the key, which is that of `compress`.
    update: the sort of the updates `[d]` that it accepts: 'theta' (uint16,
      probabilities of a mask times 65536), 'mask' (bool) or 'delta' (float32,
      local minus global weights).
    aggregated: the sort that the server adds up after `decompress`, 'mask' or
      'delta'.
    symbols: their sort, a key of `codecs.base.DTYPES`.
    sizes: how long the parts of the symbols are, in order; codecs call these
      parts tensors.  The first part of 'levels' consists of bytes, see
      `codecs.levels`.
    symbols_are_the_mask: the symbols are the very mask of weights that arrives;
      its density is reported then.
    needs_shared_key: `decompress` needs the key, so the server must know the
      client's random numbers.
    mask_is_dithered: that mask is `bits16(key) < update`.  The server can then
      guess it from the key and theta, which codecs that need a guess rely on.
    flips: how often, out of 65536, the client flips a bit of its mask on purpose,
      with random numbers of its own.  Only where masks are added up; what they
      add up to is then freed of the bias, see `protocol.aggregate`.
    check: (symbols, in NumPy) -> why no client can have sent them; empty if one
      can.  It is called with what arrived, before `decompress`.  Of a 'delta'
      it refuses what decompresses to more than MAX_CHANGE.
  """

  compress: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  decompress: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  update: str
  aggregated: str
  symbols: str
  sizes: tuple[int, ...]
  symbols_are_the_mask: bool = False
  needs_shared_key: bool = False
  mask_is_dithered: bool = False
  flips: int = 0
  check: Callable[[np.ndarray], str] = lambda symbols: ''


def as_sent(
  key: jax.Array, symbols: jax.Array, payload: jax.Array
) -> jax.Array:
  """The `decompress` of symbols that are what arrives, `[d]`."""
  del key, payload
  return symbols
