"""FedPM's compressor: one mask m_k ~ Bernoulli(theta_k), d bits.

The mean of K such masks estimates the mean of the theta_k without bias, with

    E ||theta_hat - theta_bar||^2 = (1/K^2) sum_k sum_i theta_ki (1 - theta_ki)
                                 <= d / (4 K)

(Isik et al., ICLR 2023, section 3).
"""

import jax

from fedpm_jax import masks
from fedpm_jax.compressors import base


def bernoulli(layout: masks.Layout) -> base.Compressor:
  """update q uint16 `[d]` -> symbols bool `[d]`; the server takes the bits."""

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del payload
    return masks.sample(key, update)

  return base.Compressor(
    compress,
    base.as_sent,
    update='theta',
    aggregated='mask',
    symbols='mask',
    sizes=layout.sizes,
    symbols_are_the_mask=True,
    mask_is_dithered=True,
  )
