"""Products of matrices whose operands lie the wrong way round."""

import jax
import jax.numpy as jnp
from jax.experimental import layout

# Of longer ones the transpose alone took longer than what it saves.
_ROWS = 8192


def transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
  """a^T b: where gradients of kernels come from.

  XLA's CPU backend hands a product to its fast library only if the first
  operand lies row by row, and folds a transpose into it that would see to that.
  With the transpose written out for the first layer and for the last two, a round
  of CONV-6 was 8 % shorter (two cores with AVX-512).

  Args:
    a: [..., n, c].
    b: [..., n, o].

  Returns:
    [..., c, o].
  """
  a = jnp.swapaxes(a, -1, -2)
  if jax.default_backend() == 'cpu' and a.shape[-1] <= _ROWS:
    in_rows = layout.Layout(major_to_minor=tuple(range(a.ndim)))
    a = layout.with_layout_constraint(a, in_rows)
  return a @ b


@jax.custom_vjp
def product(a: jax.Array, b: jax.Array) -> jax.Array:
  """a b, [n, c] and [c, o], for n much larger than a batch.

  Of a batch's rows `dense.product` is the one: it orders what reads its kernel,
  and so computes the gradient of a, which a first layer has no need of.
  """
  return a @ b


def _forward(a, b):
  return a @ b, (a, b)


def _backward(residuals, gradient):
  a, b = residuals
  return gradient @ b.T, transposed_product(a, gradient)


product.defvjp(_forward, _backward)
