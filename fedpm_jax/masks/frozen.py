"""Frozen random weights: never stored and never sent.

They are a pure function of (seed, tensor path, shape) and are regenerated
wherever they are needed; tests/masks pins them.
"""

import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from fedpm_jax.masks import layout as layouts
from fedpm_jax.prng import keys, threefry

_BLOCK = 2048  # weights drawn from one key
_VALUES = 2**16  # of the 16 random bits from which one weight is made

# (number in a block, dtype) -> random integers `[blocks, number]`
_Draw = Callable[[int, DTypeLike], jax.Array]


def _signs(draw: _Draw) -> jax.Array:
  """Fair signs, as float32: one random bit each."""
  words = draw(_BLOCK // 32, jnp.uint32)
  shifts = jnp.arange(32, dtype=jnp.uint32).reshape(1, 1, 32)
  bits = (words[:, :, None] >> shifts) & 1
  return 2.0 * bits.reshape(-1, _BLOCK).astype(jnp.float32) - 1.0


def _uniform(draw: _Draw) -> jax.Array:
  """The odd integers from -65535 to 65535, equally likely, as float32."""
  odd = 2.0 * draw(_BLOCK, jnp.uint16).astype(jnp.float32)
  return odd - float(_VALUES - 1)


def _normal(draw: _Draw) -> jax.Array:
  """Standard normal, by its 2^16 quantiles: a table, the same everywhere."""
  # The import takes 0.2 s, and only this kind needs it.
  from scipy import special

  quantiles = special.ndtri((np.arange(_VALUES) + 0.5) / _VALUES)
  bits = draw(_BLOCK, jnp.uint16).astype(jnp.int32)
  return jnp.asarray(quantiles.astype(np.float32))[bits]


# kind: (what is drawn, the factor that gives it unit variance)
WEIGHTS: dict[str, tuple[Callable[[_Draw], jax.Array], float]] = {
  'signed_constant': (_signs, 1.0),
  'uniform': (_uniform, math.sqrt(3) / _VALUES),
  'normal': (_normal, 1.0),
}


def weights(
  key: np.ndarray,
  layout: layouts.Layout,
  *,
  kind: str = 'signed_constant',
  gain: float = math.e,
) -> jax.Array:
  """The frozen weights, regenerated wherever they are needed.

  A tensor's weights depend on the key, its path and its size alone, so a new
  layer leaves the others as they are.  Their standard deviation is
  c = gain / sqrt(fan_in).  The gain is e in the official code of FedPM and
  sqrt(2) (Kaiming) in its paper.  Integer bits decide everything, so every
  machine that runs the pinned generator regenerates the same network.

  Args:
    key: `keys.words(seed, keys.Purpose.WEIGHTS)`.
    layout: of the network.
    kind: 'signed_constant' (+-c), 'uniform' on (-c sqrt(3), c sqrt(3)) or
      'normal'.
    gain: see above.

  Returns:
    float32 `[d]`.
  """
  draw_kind, unit = WEIGHTS[kind]
  # All tensors are cut into blocks, and all blocks are drawn at once, because
  # the generator is then compiled once instead of once for each tensor.
  blocks = [-(-size // _BLOCK) for size in layout.sizes]
  tensors = [zlib.crc32(name.encode()) for name in layout.names]
  block_keys = threefry.fold_in(
    threefry.fold_in(key, np.repeat(np.array(tensors, np.uint32), blocks)),
    np.concatenate([np.arange(n, dtype=np.uint32) for n in blocks]),
  )

  def draw(count: int, dtype: DTypeLike) -> jax.Array:
    bits = lambda key: jax.random.bits(key, (count,), dtype)
    return jax.vmap(bits)(keys.wrap(block_keys))

  # The draws are multiplied by one float only: a compiler may reorder two
  # multiplications, which rounds in another way, but not one.
  scales = [unit * gain / math.sqrt(fan_in) for fan_in in layout.fan_ins]
  scales = np.repeat(np.array(scales, np.float32), blocks)
  # Without the barrier XLA would fuse a copy of the generator into every slice
  # below, and each copy takes as long to compile as the first.
  drawn = lax.optimization_barrier(draw_kind(draw) * scales[:, None])
  parts, start = [], 0
  for size, count in zip(layout.sizes, blocks, strict=True):
    parts.append(drawn[start : start + count].reshape(-1)[:size])
    start += count
  return layouts.concatenated(parts)
