"""A dense layer whose kernel's gradient costs less where batches are small.

With B images the gradient is x^T g, a sum of B outer products: of few, it is
cheaper to add them up where they are used than to write them down, since an
optimiser's step then reads and writes the kernel once and nothing else.
"""

import jax
import jax.numpy as jnp

from fedpm_jax.system import xla

# With 20 images the product was faster again (two CPU cores, kernel of 2 million
# weights); on other devices nothing was measured.  Sums in bfloat16 would lose
# what the product adds up in float32.
FEW = 16


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x @ kernel: [B, inputs] x [inputs, outputs] -> [B, outputs]."""
  return x @ kernel


def _forward(x, kernel):
  return x @ kernel, (x, kernel)


def _backward(residuals, gradient):
  x, kernel = residuals
  d_x = gradient @ kernel.T
  # What reads the kernel comes before what may overwrite it: else XLA would
  # keep a copy of every kernel in every step.
  x, gradient, d_x = xla.computed_once((x, gradient, d_x))
  on_cpu = jax.default_backend() == 'cpu'
  if on_cpu and len(x) <= FEW and x.dtype == jnp.float32:
    d_kernel = sum(
      a[:, None] * g[None] for a, g in zip(x, gradient, strict=True)
    )
  else:
    d_kernel = x.T @ gradient
  return d_x, d_kernel


product.defvjp(_forward, _backward)
