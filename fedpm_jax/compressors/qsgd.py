"""QSGD: each parameter's update rounded at random to a multiple of ||g|| / s.

In each bucket of consecutive parameters, g `[n]`,

    l_i = s |g_i| / ||g||,    xi_i = floor(l_i) + Bernoulli(l_i - floor(l_i)),
    out_i = ||g|| sign(g_i) xi_i / s,

This is unbiased, with E ||out - g||^2 <= min(n / s^2, sqrt(n) / s) ||g||^2
(lemma 3.1).  One symbol holds sign and xi: s + sign(g_i) xi_i in [0, 2 s].

Reference: Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD: communication-
efficient SGD via gradient quantization and encoding", NeurIPS 2017.
Deviations: an entropy coder with the symbols' counts replaces the Elias code;
buckets go on across tensors; g is the update of a whole round.
"""

import jax
import jax.numpy as jnp

from fedpm_jax import masks
from fedpm_jax.compressors import base
from fedpm_jax.compressors import levels as symbols_of


def qsgd(
  layout: masks.Layout, *, levels: int = 1, bucket: int = 512
) -> base.Compressor:
  """update float32 `[d]` -> symbols uint8 `[4 B + d]`: B norms, then levels.

  Args:
    layout: of the network.
    levels: s, how many levels lie above 0.
    bucket: n, the parameters that share a norm; B = ceil(d / n).

  Raises:
    ValueError: a number is out of its range.
  """
  if not 1 <= levels <= 127 or bucket < 1:
    raise ValueError(
      'qsgd: levels must lie in [1, 127] and bucket be at least 1, got'
      f' {levels} and {bucket}.'
    )
  d = layout.num_parameters
  count = -(-d // bucket)

  def in_buckets(flat: jax.Array) -> jax.Array:
    """[d] -> [B, n]; the zeros at the end are not sent."""
    return jnp.pad(flat, (0, count * bucket - d)).reshape(count, bucket)

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del payload
    rows = in_buckets(update)
    norms = jnp.sqrt(jnp.sum(rows**2, axis=1))
    # A bucket of zeros has norm 0 and any unit; it must not divide by 0.
    unit = jnp.where(norms > 0, norms, 1)[:, None] / levels
    exact = (jnp.abs(rows) / unit).reshape(-1)[:d]
    below = jnp.floor(exact)
    up = symbols_of.uniform(key, d) < exact - below
    # Where one parameter has all of the norm, |g| / ||g|| may round to above 1.
    xi = jnp.minimum(below + up, levels)
    return symbols_of.join(norms, levels + jnp.sign(update) * xi)

  def decompress(
    key: jax.Array, symbols: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del key, payload
    norms, signed = symbols_of.split(symbols, count)
    rows = in_buckets((signed - levels).astype(jnp.float32))
    return (rows * (norms[:, None] / levels)).reshape(-1)[:d]

  return base.Compressor(
    compress,
    decompress,
    update='delta',
    aggregated='delta',
    symbols='levels',
    sizes=(symbols_of.BYTES * count, *layout.sizes),
    check=lambda symbols: symbols_of.problem(
      symbols, count=count, alphabet=2 * levels + 1
    ),
  )
