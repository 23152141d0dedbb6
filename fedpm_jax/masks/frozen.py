"""Frozen random weights: never stored and never sent.

They are a pure function of (seed, tensor path, shape), regenerated wherever they
are needed; tests/masks pins them.
"""

import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax.masks import layout as layouts
from fedpm_jax.prng import keys, threefry

_BLOCK = 2048  # weights drawn from one key


def _signs(draw: Callable[..., jax.Array]) -> jax.Array:
  """Fair signs, as float32: one random bit each."""
  words = draw(_BLOCK // 32, jnp.uint32)
  shifts = jnp.arange(32, dtype=jnp.uint32).reshape(1, 1, 32)
  bits = (words[:, :, None] >> shifts) & 1
  return 2.0 * bits.reshape(-1, _BLOCK).astype(jnp.float32) - 1.0


def _uniform(draw: Callable[..., jax.Array]) -> jax.Array:
  """The odd integers from -65535 to 65535, equally likely, as float32."""
  return 2.0 * draw(_BLOCK, jnp.uint16).astype(jnp.float32) - 65535.0


def _normal(draw: Callable[..., jax.Array]) -> jax.Array:
  """Standard normal, by its 2^16 quantiles: a table, the same everywhere."""
  from scipy import special  # 0.2 s, and only this kind needs it.

  quantiles = special.ndtri((np.arange(65536) + 0.5) / 65536)
  bits = draw(_BLOCK, jnp.uint16).astype(jnp.int32)
  return jnp.asarray(quantiles.astype(np.float32))[bits]


# kind: (what is drawn, the factor that gives it unit variance)
WEIGHTS = {
  'signed_constant': (_signs, 1.0),
  'uniform': (_uniform, math.sqrt(3) / 65536),
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

  A tensor's weights depend on the key, its path and its size alone, so that
  adding a layer leaves the others as they are.  Their standard deviation is
  c = gain / sqrt(fan_in): gain = e in the official code of FedPM, sqrt(2)
  (Kaiming) in its paper.  Integer bits decide everything, so every machine
  that runs the pinned generator regenerates the same network.

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
  # All tensors are cut into blocks, and all blocks are drawn at once: the
  # generator is compiled once instead of once a tensor.
  blocks = [-(-size // _BLOCK) for size in layout.sizes]
  tensors = [zlib.crc32(name.encode()) for name in layout.names]
  block_keys = threefry.fold_in(
    threefry.fold_in(key, np.repeat(np.array(tensors, np.uint32), blocks)),
    np.concatenate([np.arange(n, dtype=np.uint32) for n in blocks]),
  )

  def draw(count, dtype):
    bits = lambda key: jax.random.bits(key, (count,), dtype)
    return jax.vmap(bits)(keys.wrap(block_keys))

  # One float multiplication: a compiler may not round it in another way.
  scales = [unit * gain / math.sqrt(fan_in) for fan_in in layout.fan_ins]
  scales = np.repeat(np.array(scales, np.float32), blocks)
  # Drawn once: XLA would fuse a copy of the generator into every slice below,
  # each of which takes it as long to compile as the first.
  drawn = lax.optimization_barrier(draw_kind(draw) * scales[:, None])
  parts, start = [], 0
  for size, count in zip(layout.sizes, blocks, strict=True):
    parts.append(drawn[start : start + count].reshape(-1)[:size])
    start += count
  return layouts.concatenated(parts)
