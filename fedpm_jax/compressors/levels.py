"""What the compressors of weight updates share: scales in front of levels.

Their symbols are uint8: the bytes of n float32 scales, little-endian on every
machine that JAX supports, then small integers; see `codecs.levels`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax.compressors import base

BYTES = 4  # of a scale


def join(scales: jax.Array, levels: jax.Array) -> jax.Array:
  """Scales float32 `[n]`, levels integers `[m]` -> uint8 `[4 n + m]`."""
  head = lax.bitcast_convert_type(scales, jnp.uint8).reshape(-1)
  return jnp.concatenate([head, levels.astype(jnp.uint8)])


def split(symbols: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """Symbols uint8 -> `count` scales float32, levels int32."""
  head = symbols[: BYTES * count].reshape(count, BYTES)
  levels = symbols[BYTES * count :].astype(jnp.int32)
  return lax.bitcast_convert_type(head, jnp.float32), levels


def problem(
  symbols: np.ndarray, *, count: int, alphabet: int, largest: float = 1.0
) -> str:
  """Why these symbols cannot have been sent; empty where they can.

  Args:
    symbols: uint8 `[4 count + m]`, as they arrived.
    count: how many scales are expected.
    alphabet: how many values a level can have, from 0 on.
    largest: the most that can arrive where the scale is 1.
  """
  scales = symbols[: BYTES * count].view('<f4')
  most = base.MAX_CHANGE / largest
  odd = scales[~((scales >= 0) & (scales <= most))]  # or NaN
  if odd.size:
    return f'got a scale of {odd[0]}, expected one in [0, {most:.3g}]'
  highest = symbols[BYTES * count :].max(initial=0)
  if highest >= alphabet:
    return f'got a level of {highest}, expected at most {alphabet - 1}'
  return ''


def uniform(key: jax.Array, size: int) -> jax.Array:
  """Uniform in [0, 1), float32 `[size]`; steps of 2^-23, for small chances."""
  # XLA's CPU backend makes vector code only for an even number.  Without the
  # barrier it would draw again in every use.
  drawn = jax.random.uniform(key, (size + size % 2,))
  return lax.optimization_barrier(drawn)[:size]
