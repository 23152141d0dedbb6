"""Masked random noise: the update as a mask of noise that both ends draw.

Noise n `[d]`, uniform on (-scale, scale), follows from the key.  What arrives is
0 or n (binary), or -n or n (signed), and the mask, 1 bit a parameter, says
which.  It is drawn so that the update u arrives in the mean, where it lies
between the two values, and otherwise the nearer one arrives:

    binary   P(mask) = clip(u / n, 0, 1)
    signed   P(mask) = clip((u / n + 1) / 2, 0, 1)

A binary mask cannot move a parameter against its noise, so a client should know
its noise while it trains: that is the algorithm `fedmrn`.  Alone this is
masking after training.

Reference: Li, Cheng, Wang, Tang, Xu, Luo, Li, Liu, He, Li, "Masked random noise
for communication-efficient federated learning", ACM MM 2024 (FedMRN).
Deviations: noise has 2^16 values, none of them 0; the paper's Gaussian and
two-valued noise are left out.
"""

import jax
import jax.numpy as jnp

from fedpm_jax import masks
from fedpm_jax.compressors import base
from fedpm_jax.prng import dithers


def mrn(
  layout: masks.Layout, *, scale: float = 0.01, signed: bool = False
) -> base.Compressor:
  """update float32 `[d]` -> symbols bool `[d]`.

  Args:
    layout: of the network.
    scale: the noise lies within +-scale, positive, at most 1e15.
    signed: whether a zero of the mask stands for -n instead of 0.

  Raises:
    ValueError: a number is out of its range.
  """
  if not 0 < scale <= base.MAX_CHANGE:
    raise ValueError(
      f'mrn: scale must lie in (0, {base.MAX_CHANGE:g}], got {scale}.'
    )
  d = layout.num_parameters

  def noise_and_dithers(key):
    drawn = dithers.bits16(key, 2 * d)
    noise = (drawn[:d].astype(jnp.float32) - 32767.5) * (scale / 32768)
    return noise, drawn[d:]

  def values(noise, mask):
    return jnp.where(mask, noise, -noise if signed else 0)

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del payload
    noise, drawn = noise_and_dithers(key)
    return draw(drawn, update, values(noise, False), noise)

  def decompress(
    key: jax.Array, symbols: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del payload
    return values(noise_and_dithers(key)[0], symbols)

  return base.Compressor(
    compress,
    decompress,
    update='delta',
    aggregated='delta',
    symbols='mask',
    sizes=layout.sizes,
    needs_shared_key=True,
  )


def draw(
  dithers_: jax.Array, update: jax.Array, zero: jax.Array, one: jax.Array
) -> jax.Array:
  """A mask with which the update arrives in the mean.

  Args:
    dithers_: uint16 `[d]`.
    update: float32 `[d]`.
    zero: what a zero of the mask stands for, float32 `[d]`.
    one: what a one stands for, different from `zero`.

  Returns:
    bool `[d]`.  Beyond both values it is certain which of them arrives.
  """
  chance = (update - zero) / (one - zero)
  return dithers_.astype(jnp.float32) + 0.5 < masks.SCALE * chance
