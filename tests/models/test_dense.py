"""Dense layers: x @ kernel, whatever its gradient is made of."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax import lax

from fedpm_jax.models import dense
from fedpm_jax.system import xla


def results(x, kernel, gradient):
  y, backward = jax.vjp(dense.product, x, kernel)
  return y, *backward(gradient)


def example(rng, batch, dtype=np.float32):
  shapes = (batch, 40), (40, 24), (batch, 24)
  return [rng.normal(size=shape).astype(dtype) for shape in shapes]


class ProductTest(chex.TestCase):
  """On both sides of `dense.FEW`, because the gradient is made in two ways."""

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(1, 7, dense.FEW, dense.FEW + 1)
  def test_value_and_gradients_are_those_of_the_product(self, batch):
    x, kernel, gradient = example(np.random.default_rng(0), batch)
    wide = [a.astype(np.float64) for a in (x, kernel, gradient)]
    expected = wide[0] @ wide[1], wide[2] @ wide[1].T, wide[0].T @ wide[2]
    got = self.variant(results)(x, kernel, gradient)
    chex.assert_type(got, np.float32)
    chex.assert_trees_all_close(
      jax.tree.map(np.float64, got), expected, rtol=1e-5, atol=1e-5
    )

  @chex.variants(with_jit=True, without_jit=True)
  def test_bfloat16_is_not_added_up_in_bfloat16(self):
    """256 + 1 + ... + 1 would be 256: eight bits do not hold 257."""
    x = jnp.ones((dense.FEW, 1), jnp.bfloat16)
    gradient = jnp.ones((dense.FEW, 1), jnp.bfloat16).at[0].set(256)
    kernel = jnp.ones((1, 1), jnp.bfloat16)
    got = self.variant(results)(x, kernel, gradient)
    chex.assert_type(got, jnp.bfloat16)
    assert float(got[2][0, 0]) == pytest.approx(255 + dense.FEW, rel=2**-8)


@pytest.mark.parametrize('batch', [5, dense.FEW + 1])
def test_one_kernel_per_client(rng, batch):
  examples = [example(rng, batch) for _ in range(3)]
  stacked = [np.stack(each) for each in zip(*examples, strict=True)]
  each = [results(*alone) for alone in examples]
  chex.assert_trees_all_close(
    jax.jit(jax.vmap(results))(*stacked),
    jax.tree.map(lambda *alone: np.stack(alone), *each),
    rtol=1e-5,
    atol=1e-5,
  )


@pytest.mark.parametrize('batch', [8, 64])
@pytest.mark.parametrize('product', [dense.product, jnp.matmul])
def test_a_step_keeps_no_copy_of_a_kernel(batch, product):
  """A loop's own copies are made before it; jnp.matmul shows the other kind."""

  def step(_, kernels, x):
    def loss(kernels):
      y = x
      for kernel in kernels:
        y = jax.nn.relu(product(y, kernel))
      return (y**2).sum()

    gradient = jax.grad(loss)(kernels)
    return jax.tree.map(lambda k, g: k - 0.1 * g, kernels, gradient)

  def train(kernels, x):
    return lax.fori_loop(0, 9, lambda i, k: step(i, k, x), kernels)

  kernels = [jnp.ones((320, 96)), jnp.ones((96, 96))]
  text = (
    jax.jit(train, compiler_options=xla.compiler_options())
    .lower(kernels, jnp.ones((batch, 320)))
    .compile()
    .as_text()
  )
  copies = re.findall(r'f32\[(?:320|96),96\]\S* copy\(%get-tuple', text)
  if jax.default_backend() == 'cpu':
    assert bool(copies) == (product is jnp.matmul)
