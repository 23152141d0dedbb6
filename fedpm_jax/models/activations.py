"""Bias, ReLU and max pooling with gradients written for speed.

Both functions are pointwise in all but a few named dimensions, so that they
work on images [B, H, W, C] and on the tiles of `models.winograd` alike.  What
they keep for the backward pass is small and is computed once; the gradients
that JAX derives keep the inputs and compute the same thing again.
"""

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_vjp
def bias_relu(x: jax.Array, bias: jax.Array) -> jax.Array:
  """max(x + bias, 0); the gradient at 0 is 0.

  Args:
    x: [..., C].
    bias: [C].

  Returns:
    [..., C].
  """
  # Parameters may be long expressions; not to be fused in, once per pixel.
  bias = lax.optimization_barrier(bias)
  y = jnp.maximum(x + lax.expand_dims(bias, range(x.ndim - 1)), 0)
  return lax.optimization_barrier(y)


def _bias_relu_forward(x, bias):
  y = bias_relu(x, bias)
  return y, y


def _bias_relu_backward(y, gradient):
  gradient = lax.optimization_barrier(jnp.where(y > 0, gradient, 0))
  return gradient, gradient.sum(range(y.ndim - 1))


bias_relu.defvjp(_bias_relu_forward, _bias_relu_backward)


def max_pool2x2(x: jax.Array) -> jax.Array:
  """2x2 max pool, stride 2; an odd last row or column is dropped.

  Args:
    x: [B, H, W, C].

  Returns:
    [B, H // 2, W // 2, C].
  """
  batch, height, width, channels = x.shape
  height, width = height // 2, width // 2
  x = x[:, : 2 * height, : 2 * width, :]
  x = x.reshape(batch * height, 2, width, 2, channels)
  return max_of_corners(x).reshape(batch, height, width, channels)


@jax.custom_vjp
def max_of_corners(x: jax.Array) -> jax.Array:
  """Maximum of 2x2 windows; the gradient goes to the first maximum.

  JAX derives a slow gradient from `lax.reduce_window` (select-and-scatter), and
  one that shares out ties, unlike other frameworks, from `jnp.max`.

  Args:
    x: [h, 2, w, 2, ...], the windows' rows in the second and their columns in
      the fourth dimension.

  Returns:
    [h, w, ...].
  """
  return _max_of_corners_forward(x)[0]


def _max_of_corners_forward(x):
  corners = x[:, 0, :, 0], x[:, 0, :, 1], x[:, 1, :, 0], x[:, 1, :, 1]
  top = jnp.maximum(corners[0], corners[1])
  largest = jnp.maximum(top, jnp.maximum(corners[2], corners[3]))
  first = jnp.full(largest.shape, 3, jnp.uint8)
  for i in (2, 1, 0):
    first = jnp.where(corners[i] == largest, jnp.uint8(i), first)
  return lax.optimization_barrier((largest, first))


def _max_of_corners_backward(first, gradient):
  ones = (1,) * (first.ndim - 2)
  corner = jnp.arange(4, dtype=jnp.uint8).reshape(1, 2, 1, 2, *ones)
  first, gradient = first[:, None, :, None], gradient[:, None, :, None]
  return (lax.optimization_barrier(jnp.where(first == corner, gradient, 0)),)


max_of_corners.defvjp(_max_of_corners_forward, _max_of_corners_backward)
