"""Products and their gradients, however their operands lie in memory."""

import jax
import numpy as np
import pytest

from fedpm_jax.models import matrices


def operands(rng, *shapes):
  return [np.float32(rng.normal(size=shape)) for shape in shapes]


@pytest.mark.parametrize('rows', [1, 7, 64])
def test_transposed_product_is_the_sum_over_rows(rng, rows, monkeypatch):
  a, b = operands(rng, (3, rows, 5), (3, rows, 4))
  expected = np.einsum('tnc,tno->tco', np.float64(a), b)
  for limit in (10, 100):  # Long operands are not turned round.
    monkeypatch.setattr(matrices, '_ROWS', limit)
    got = jax.jit(matrices.transposed_product)(a, b)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_the_first_operand_lies_row_by_row(rng):
  """Or XLA takes its slow product: where the sum is over the first dimension."""
  operand = operands(rng, (64, 32), (64, 16))
  plain = jax.jit(lambda a, b: a.T @ b).lower(*operand).compile().as_text()
  ours = jax.jit(matrices.transposed_product).lower(*operand)
  assert 'lhs_contracting_dims={0}' in plain
  assert 'lhs_contracting_dims={0}' not in ours.compile().as_text()


def test_product_has_the_gradients_of_a_product(rng):
  *both, gradient = operands(rng, (6, 5), (5, 4), (6, 4))
  y, transpose = jax.vjp(matrices.product, *both)
  expected, expected_transpose = jax.vjp(lambda a, b: a @ b, *both)
  np.testing.assert_array_equal(y, expected)
  for got, want in zip(
    transpose(gradient), expected_transpose(gradient), strict=True
  ):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_vmap_equals_a_loop(rng):
  a, b = operands(rng, (3, 6, 5), (3, 6, 4))
  looped = [
    matrices.transposed_product(*pair) for pair in zip(a, b, strict=True)
  ]
  batched = jax.jit(jax.vmap(matrices.transposed_product))(a, b)
  np.testing.assert_allclose(batched, looped, rtol=1e-5, atol=1e-6)
