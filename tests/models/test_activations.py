"""Bias, ReLU and pooling, against hand examples and JAX's own gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedpm_jax.models import activations


def image(rows):
  return jnp.array(rows, jnp.float32)[None, :, :, None]


def pooled(x, bias):
  return activations.pool_bias_relu(activations.windows2x2(x), bias)


def test_pool_gives_the_gradient_to_the_first_maximum():
  x = image([[1, 2, 5, 5], [2, 0, 5, 5], [0, 0, 3, 4], [0, 7, 4, 4]])
  y, transpose = jax.vjp(pooled, x, jnp.float32([-4]))
  np.testing.assert_array_equal(y[..., 0], [[0, 1], [3, 0]])
  gradient, of_bias = transpose(jnp.float32([[10, 20], [30, 40]])[..., None])
  np.testing.assert_array_equal(
    gradient,
    image([[0, 0, 20, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 30, 0, 0]]),
  )
  np.testing.assert_array_equal(of_bias, [50])


@pytest.mark.parametrize('size', [(4, 6), (7, 5), (2, 3)])
def test_pool_is_the_usual_one(rng, size):
  def usual(x, bias):
    window = (1, 2, 2, 1)
    x = lax.reduce_window(x, -np.inf, lax.max, window, window, 'VALID')
    return jax.nn.relu(x + jnp.broadcast_to(bias, x.shape))

  x = jnp.float32(rng.normal(size=(3, *size, 5)))
  bias = jnp.float32(rng.normal(size=5))
  expected, expected_transpose = jax.vjp(usual, x, bias)
  y, transpose = jax.vjp(
    lambda x, bias: pooled(x, bias).reshape(expected.shape), x, bias
  )
  np.testing.assert_array_equal(y, expected)
  gradient = jnp.float32(rng.normal(size=y.shape))
  got, want = transpose(gradient), expected_transpose(gradient)
  np.testing.assert_array_equal(got[0], want[0])
  np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('shape', [(4, 3), (2, 4, 4, 3), (4, 4, 1, 1, 2, 3)])
def test_bias_relu_is_the_usual_one(rng, shape):
  def usual(x, bias):
    return jax.nn.relu(x + jnp.broadcast_to(bias, x.shape))

  x = jnp.float32(rng.integers(-2, 3, size=shape))  # many sums are exactly 0
  bias = jnp.float32([-1, 0, 1])
  y, transpose = jax.vjp(activations.bias_relu, x, bias)
  expected, expected_transpose = jax.vjp(usual, x, bias)
  np.testing.assert_array_equal(y, expected)
  gradient = jnp.float32(rng.integers(1, 9, size=shape))
  for got, want in zip(
    transpose(gradient), expected_transpose(gradient), strict=True
  ):
    np.testing.assert_array_equal(got, want)


def test_vmap_equals_a_loop(rng):
  x = jnp.float32(rng.normal(size=(3, 2, 4, 4, 5)))
  bias = jnp.float32(rng.normal(size=(3, 5)))

  def loss(x, bias):
    y = pooled(x, bias)
    y = activations.bias_relu(y - 1, bias)
    return jnp.sum(y * y)

  gradients = jax.jit(jax.grad(loss, (0, 1)))
  expected = [gradients(*arguments) for arguments in zip(x, bias, strict=True)]
  for i, got in enumerate(jax.vmap(gradients)(x, bias)):
    want = jnp.stack([gradient[i] for gradient in expected])
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
