"""DeltaMask: where the client's mask differs from one that both ends drew.

Both ends draw m_g = [u < theta_g] with the same dithers u.  The client draws
its mask with them too, m_k = [u < theta_k].  So the two differ only where theta
has moved past u, with probability |theta_k - theta_g|.  The client sends the
share `kappa` of these flips: those whose theta has moved furthest, by
KL(theta_k || theta_g).  The others stay as m_g has them, which is a bias
towards theta_g.  With kappa = 1 the server receives the mask of `bernoulli`,
bit for bit.

Reference: Tsouvalas, Asano, Saeed, "Federated fine-tuning of foundation models
via probabilistic masking" (DeltaMask), 2023.  Deviations: the flips are a mask
that an entropy coder takes ('frequency'), in place of a binary fuse filter in
an image file: fewer bits, and no false flips; kappa is constant over rounds;
flips that tie with the last one kept are kept too.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fedpm_jax import masks
from fedpm_jax.compressors import base
from fedpm_jax.compressors.relative_entropy import divergence
from fedpm_jax.prng import dithers


def mask_delta(layout: masks.Layout, *, kappa: float = 0.8) -> base.Compressor:
  """update q uint16 `[d]` -> symbols bool `[d]`, the flips; a mask comes out.

  Args:
    layout: of the network.
    kappa: the share of the flips that is sent, in (0, 1].

  Raises:
    ValueError: `kappa` is not in (0, 1].
  """
  if not 0 < kappa <= 1:
    raise ValueError(f'mask_delta: kappa must lie in (0, 1], got {kappa}.')

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    u = dithers.bits16(key, update.size)
    # Without the barrier XLA would compute the flips again in each use.
    flips = lax.optimization_barrier((u < update) ^ (u < payload))
    moved = jnp.where(flips, divergence(update, payload), -1)
    count = jnp.ceil(kappa * jnp.sum(flips)).astype(jnp.int32)
    # Without flips nothing can be kept, so any threshold will do; the maximum
    # only keeps the index in range.
    last = jnp.sort(moved)[update.size - jnp.maximum(count, 1)]
    return flips & (moved >= last)

  def decompress(
    key: jax.Array, symbols: jax.Array, payload: jax.Array
  ) -> jax.Array:
    return masks.sample(key, payload) ^ symbols

  return base.Compressor(
    compress,
    decompress,
    update='theta',
    aggregated='mask',
    symbols='mask',
    sizes=layout.sizes,
    needs_shared_key=True,
  )
