"""TernGrad: each parameter's update as -s, 0 or s, with one s per tensor.

    s = max_i |g_i|,    out_i = s sign(g_i) b_i,    b_i ~ Bernoulli(|g_i| / s)

This is unbiased, with variance |g_i| (s - |g_i|).  Each tensor of g is clipped
to `clip` standard deviations before, because one large g_i would make all
others noise.  What is clipped off is lost.

Reference: Wen, Xu, Yan, Wu, Wang, Chen, Li, "TernGrad: ternary gradients to
reduce communication in distributed deep learning", NeurIPS 2017.  Deviations:
the standard deviation is taken about 0, not about the mean, because a tensor of
equal values (a bias of one unit, say) does not deviate from its mean and would
be clipped to nothing; each client has its own s (no "scaler sharing"); the
trits are entropy-coded; g is the update of a whole round.
"""

import math

import jax
import jax.numpy as jnp

from fedpm_jax import masks
from fedpm_jax.compressors import base, levels


def terngrad(layout: masks.Layout, *, clip: float = 2.5) -> base.Compressor:
  """update float32 `[d]` -> symbols uint8 `[4 L + d]`: L scales, then trits.

  Args:
    layout: of the network, L tensors.
    clip: c; a tensor is clipped to +-c of its standard deviations.

  Raises:
    ValueError: `clip` is not positive and finite.
  """
  if not 0 < clip < math.inf:
    raise ValueError(f'terngrad: clip must be positive and finite, got {clip}.')
  count = len(layout.sizes)

  def spread(scales: jax.Array) -> jax.Array:
    """One scale per tensor [L] -> one per parameter [d]."""
    parts = [
      jnp.full(size, scale)
      for size, scale in zip(layout.sizes, scales, strict=True)
    ]
    return jnp.concatenate(parts)

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del payload
    # Scale = max of the clipped tensor, at most the bound.
    scales = jnp.stack(
      [
        jnp.minimum(
          jnp.max(jnp.abs(part), initial=0),
          clip * jnp.sqrt(jnp.sum(part**2) / max(part.size, 1)),
        )
        for part in masks.split(layout, update)
      ]
    )
    chance = levels.uniform(key, update.size) * spread(scales)
    # The update need not be clipped: beyond the bound the chance is 1 anyway.
    trits = jnp.where(chance < jnp.abs(update), jnp.sign(update), 0)
    return levels.join(scales, 1 + trits)

  def decompress(
    key: jax.Array, symbols: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del key, payload
    scales, trits = levels.split(symbols, count)
    return spread(scales) * (trits - 1)

  return base.Compressor(
    compress,
    decompress,
    update='delta',
    aggregated='delta',
    symbols='levels',
    sizes=(levels.BYTES * count, *layout.sizes),
    check=lambda symbols: levels.problem(symbols, count=count, alphabet=3),
  )
