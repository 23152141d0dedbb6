"""Matrix products whose operands lie in memory in the wrong order."""

import jax
import jax.numpy as jnp
from jax.experimental import layout

# Above this many rows the transpose costs more than it saves.
_ROWS = 8192


def transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
  """a^T b, the product that gives the gradient of a kernel.

  XLA's CPU backend hands a product to its fast library only if the first
  operand lies in memory row by row.  A transpose before the product would see
  to that, but XLA folds the transpose into the product.  With the transpose
  written out for the first layer and for the last two, a round of CONV-6 was
  8 % shorter (two cores with AVX-512).

  Args:
    a: [..., n, c].
    b: [..., n, o].

  Returns:
    [..., c, o].
  """
  a = jnp.swapaxes(a, -1, -2)
  if jax.default_backend() == 'cpu' and a.shape[-1] <= _ROWS:
    # A constraint on the layout keeps XLA from folding the transpose.
    in_rows = layout.Layout(major_to_minor=tuple(range(a.ndim)))
    a = layout.with_layout_constraint(a, in_rows)
  return a @ b


@jax.custom_vjp
def product(a: jax.Array, b: jax.Array) -> jax.Array:
  """a b, where n is much larger than a batch.

  Where the rows are those of a batch, use `dense.product`.  It orders what
  reads its kernel, and so it always computes the gradient of a, which a first
  layer does not need.

  Args:
    a: [n, c].
    b: [c, o].

  Returns:
    [n, o].
  """
  return a @ b


def _forward(
  a: jax.Array, b: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return a @ b, (a, b)


def _backward(
  residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  a, b = residuals
  return gradient @ b.T, transposed_product(a, gradient)


product.defvjp(_forward, _backward)
