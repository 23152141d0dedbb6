"""Bias, ReLU and max pooling with gradients written for speed.

Both functions are pointwise in all but a few named dimensions, so they work on
images [B, H, W, C] and on the tiles of `models.winograd` alike.  What they keep
for the backward pass is small and is computed once.  The gradients that JAX
derives keep the inputs and compute the same thing again.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fedpm_jax.system import xla


@jax.custom_vjp
def bias_relu(x: jax.Array, bias: jax.Array) -> jax.Array:
  """max(x + bias, 0); the gradient at 0 is 0.

  Args:
    x: [..., C].
    bias: [C].

  Returns:
    [..., C].
  """
  # Parameters may be long expressions, which XLA would else compute per pixel.
  bias = xla.computed_once(bias)
  y = jnp.maximum(x + lax.expand_dims(bias, range(x.ndim - 1)), 0)
  # A GPU's compiler fuses sum and maximum into the convolution before them.
  # The barrier keeps it from seeing that the backward pass needs x + bias > 0,
  # which would prevent this.
  return lax.optimization_barrier(y)


def _bias_relu_forward(
  x: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
  # y > 0 is x + bias > 0, so the backward pass needs nothing but the result.
  y = bias_relu(x, bias)
  return y, y


def _bias_relu_backward(
  y: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  gradient = xla.computed_once(jnp.where(y > 0, gradient, 0))
  return gradient, gradient.sum(range(y.ndim - 1))


bias_relu.defvjp(_bias_relu_forward, _bias_relu_backward)


@jax.custom_vjp
def pool_bias_relu(x: jax.Array, bias: jax.Array) -> jax.Array:
  """max(x + bias, 0) of the largest x in 2x2 windows.

  The gradient goes to the first maximum.  Both gradients that JAX derives are
  worse: that of `lax.reduce_window` is slow (select-and-scatter), and that of
  `jnp.max` shares out ties, unlike other frameworks.

  Args:
    x: [h, 2, w, 2, ..., C]; the second dimension are the rows of a window and
      the fourth its columns; see `windows2x2`.
    bias: [C].

  Returns:
    [h, w, ..., C].
  """
  return _pool_bias_relu_forward(x, bias)[0]


# The corner that gets the gradient where y is 0: none of the four.
_NOWHERE = 4


def _pool_bias_relu_forward(
  x: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The result, and which corner of each window it comes from: uint8."""
  bias = xla.computed_once(bias)
  corners = x[:, 0, :, 0], x[:, 0, :, 1], x[:, 1, :, 0], x[:, 1, :, 1]
  top = jnp.maximum(corners[0], corners[1])
  largest = jnp.maximum(top, jnp.maximum(corners[2], corners[3]))
  y = jnp.maximum(largest + lax.expand_dims(bias, range(largest.ndim - 1)), 0)
  # From the last corner to the first, so that the first maximum stays.
  corner = jnp.full(largest.shape, 3, jnp.uint8)
  for i in (2, 1, 0):
    corner = jnp.where(corners[i] == largest, jnp.uint8(i), corner)
  corner = jnp.where(y > 0, corner, jnp.uint8(_NOWHERE))
  return lax.optimization_barrier((y, corner))


def _pool_bias_relu_backward(
  corner: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  gradient_of_bias = jnp.where(corner != _NOWHERE, gradient, 0)
  ones = (1,) * (corner.ndim - 2)
  corners = jnp.arange(4, dtype=jnp.uint8).reshape(1, 2, 1, 2, *ones)
  corner, gradient = corner[:, None, :, None], gradient[:, None, :, None]
  return (
    xla.computed_once(jnp.where(corner == corners, gradient, 0)),
    gradient_of_bias.sum(range(gradient_of_bias.ndim - 1)),
  )


pool_bias_relu.defvjp(_pool_bias_relu_forward, _pool_bias_relu_backward)


def windows2x2(x: jax.Array) -> jax.Array:
  """The 2x2 windows of images, stride 2; an odd last row or column is dropped.

  Args:
    x: [B, H, W, C].

  Returns:
    [B (H // 2), 2, W // 2, 2, C].
  """
  batch, height, width, channels = x.shape
  height, width = height // 2, width // 2
  x = x[:, : 2 * height, : 2 * width, :]
  return x.reshape(batch * height, 2, width, 2, channels)
