"""Bias, ReLU and pooling, against hand examples and JAX's own gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
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


def usual_relu(x, bias):
  return jax.nn.relu(x + jnp.broadcast_to(bias, x.shape))


def usual_pool(x, bias):
  window = (1, 2, 2, 1)
  x = lax.reduce_window(x, -np.inf, lax.max, window, window, 'VALID')
  return usual_relu(x, bias)


def gradients_of(function):
  """(x, bias, gradient of y) -> (y, gradients of x and of the bias)."""

  def results(x, bias, gradient):
    y, transpose = jax.vjp(function, x, bias)
    return y, *transpose(gradient)

  return results


class UsualOnesTest(chex.TestCase):
  """They give the numbers of JAX's own functions and their gradients."""

  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(0)

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((4, 6), (7, 5), (2, 3))
  def test_pool(self, *size):
    x = np.float32(self.rng.normal(size=(3, *size, 5)))
    bias = np.float32(self.rng.normal(size=5))
    shape = 3, size[0] // 2, size[1] // 2, 5
    gradient = np.float32(self.rng.normal(size=shape))
    ours = lambda x, bias: pooled(x, bias).reshape(shape)
    got = self.variant(gradients_of(ours))(x, bias, gradient)
    want = jax.jit(gradients_of(usual_pool))(x, bias, gradient)
    chex.assert_trees_all_equal(got[:2], want[:2], strict=True)
    # A sum over many pixels depends on their order.
    chex.assert_trees_all_close(got[2], want[2], rtol=1e-5, atol=1e-6)

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((4, 3), (2, 4, 4, 3), (4, 4, 1, 1, 2, 3))
  def test_bias_relu(self, *shape):
    x = np.float32(self.rng.integers(-2, 3, size=shape))  # many sums are 0
    bias = np.float32([-1, 0, 1])
    gradient = np.float32(self.rng.integers(1, 9, size=shape))
    got = self.variant(gradients_of(activations.bias_relu))(x, bias, gradient)
    want = jax.jit(gradients_of(usual_relu))(x, bias, gradient)
    chex.assert_trees_all_equal(got, want, strict=True)


def test_vmap_equals_a_loop(rng):
  x = jnp.float32(rng.normal(size=(3, 2, 4, 4, 5)))
  bias = jnp.float32(rng.normal(size=(3, 5)))

  def loss(x, bias):
    y = pooled(x, bias)
    y = activations.bias_relu(y - 1, bias)
    return jnp.sum(y * y)

  gradients = jax.jit(jax.grad(loss, (0, 1)))
  each = [gradients(*arguments) for arguments in zip(x, bias, strict=True)]
  want = jax.tree.map(lambda *alone: jnp.stack(alone), *each)
  got = jax.vmap(gradients)(x, bias)
  chex.assert_trees_all_close(got, want, rtol=1e-6, atol=1e-6)
