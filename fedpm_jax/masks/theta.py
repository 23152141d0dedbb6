"""Theta, the probability of every mask bit, and masks drawn from it.

Theta crosses the wire as the integer `q`, uint16, theta = q / 65536 with
1 <= q <= 65535.  Every sampler that another machine must reproduce takes this
integer too, because two machines may round a float differently.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax.codecs.base import THETA_SCALE as SCALE
from fedpm_jax.prng import dithers
from fedpm_jax.system import xla

Q_MIN, Q_MAX = 1, SCALE - 1


def quantise(theta: jax.Array) -> jax.Array:
  """theta float32 in [0, 1] to q uint16: nearest, clipped to [1, 65535]."""
  return jnp.clip(jnp.round(theta * SCALE), Q_MIN, Q_MAX).astype(jnp.uint16)


def theta_of(q: jax.Array) -> jax.Array:
  """theta = q / 65536, exact in float32."""
  return q.astype(jnp.float32) * np.float32(1 / SCALE)


def scores_of(q: jax.Array) -> jax.Array:
  """The scores, logit(theta), float32, finite since 1 <= q <= 65535."""
  q = q.astype(jnp.float32)
  return jnp.log(q) - jnp.log(SCALE - q)


def sample(key: jax.Array, q: Any) -> Any:
  """A mask m = [u < q] ~ Bernoulli(q / 65536), from integers.

  Args:
    key: a typed key.
    q: uint16 `[d]`, or the tree of such a vector (`unravel`).

  Returns:
    bool, of the same shape.  The mask of a tree has the bits of the vector's
    mask, cut in the same way.
  """
  tensors, tree = jax.tree.flatten(q)
  ends = np.cumsum([tensor.size for tensor in tensors])
  drawn = dithers.bits16(key, int(ends[-1]))
  parts = [
    drawn[end - tensor.size : end].reshape(tensor.shape) < tensor
    for tensor, end in zip(tensors, ends, strict=True)
  ]
  # Without the barrier XLA would compare again in every use of the mask.
  return xla.computed_once(jax.tree.unflatten(tree, parts))
