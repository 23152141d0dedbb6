"""A dense layer whose kernel's gradient costs less where batches are small.

With B images the gradient is x^T g, a sum of B outer products.  If B is small,
it is cheaper to add these up where the gradient is used than to write the
gradient to memory.  An optimiser's step then reads and writes the kernel once
and nothing else.
"""

import jax
import jax.numpy as jnp

from fedpm_jax.system import xla

# The most images for which the gradient is written as a sum.  With 20 images
# the product was faster again (two CPU cores, kernel of 2 million weights); on
# other devices nothing was measured.  In bfloat16 the product is used, because
# it adds up in float32 what such a sum would lose.
FEW = 16


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x @ kernel: [B, inputs] x [inputs, outputs] -> [B, outputs]."""
  return x @ kernel


def _forward(
  x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return x @ kernel, (x, kernel)


def _backward(
  residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = residuals
  d_x = gradient @ kernel.T
  # What reads the kernel comes before the optimiser's step, which may overwrite
  # it; else XLA would keep a copy of every kernel in every step.
  x, gradient, d_x = xla.computed_once((x, gradient, d_x))
  on_cpu = jax.default_backend() == 'cpu'
  if on_cpu and len(x) <= FEW and x.dtype == jnp.float32:
    products = (a[:, None] * g[None] for a, g in zip(x, gradient, strict=True))
    d_kernel = sum(products, start=jnp.zeros((), x.dtype))
  else:
    d_kernel = x.T @ gradient
  return d_x, d_kernel


product.defvjp(_forward, _backward)
