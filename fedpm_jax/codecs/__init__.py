"""Lossless codes: symbols to bytes and back, in NumPy; never imports JAX.

A new code is one file and one row in this table.
"""

from fedpm_jax.codecs import (
  arithmetic,
  base,
  bitpack,
  dither,
  index,
  levels,
  raw,
  theta,
  theta_news,
)
from fedpm_jax.codecs.base import Codec, SideInformation, WireError

__all__ = ['CODECS', 'Codec', 'SideInformation', 'WireError', 'base']

CODECS: dict[str, Codec] = {
  'raw': raw.RAW,
  'bitpack': bitpack.BITPACK,
  'frequency': arithmetic.FREQUENCY,
  'per_tensor': arithmetic.PER_TENSOR,
  'per_level': arithmetic.PER_LEVEL,
  'prior': arithmetic.PRIOR,
  'dither': dither.DITHER,
  'theta_raw': raw.THETA_RAW,
  'theta_levels': theta.THETA_LEVELS,
  'theta_news': theta_news.THETA_NEWS,
  'index': index.INDEX,
  'levels': levels.LEVELS,
}
