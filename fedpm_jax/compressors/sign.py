"""The sign of the update: SignSGD, 1 bit a parameter.

The server's majority vote over the signs, and its step, belong to the
algorithm.  What arrives is a bool, true where the update is not negative.  A
sign cannot be 0 on the wire, so sign(0) = +1; this is decided here and nowhere
else.

References: Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD: compressed
optimisation for non-convex problems", ICML 2018; Bernstein, Zhao,
Azizzadenesheli, Anandkumar, "signSGD with majority vote is communication
efficient and fault tolerant", ICLR 2019.  Deviation: a client sends the
sign of its update after many local steps, not that of one gradient.
"""

import jax

from fedpm_jax import masks
from fedpm_jax.compressors import base


def sign(layout: masks.Layout) -> base.Compressor:
  """update float32 `[d]` -> symbols bool `[d]`; the server takes the bits."""

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del key, payload
    return update >= 0

  return base.Compressor(
    compress,
    base.as_sent,
    update='delta',
    aggregated='mask',
    symbols='mask',
    sizes=layout.sizes,
  )
