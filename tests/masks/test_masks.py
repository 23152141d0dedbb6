"""Layouts, frozen weights, theta and straight-through gradients."""

import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax import masks
from fedpm_jax.prng import dithers, keys

PARAMS = {
  'conv_0': {'kernel': np.zeros((3, 3, 2, 8)), 'bias': np.zeros(8)},
  'dense_0': {'kernel': np.zeros((32, 100)), 'bias': np.zeros(100)},
}
LAYOUT = masks.layout_of(PARAMS)
WORDS = keys.words(0, keys.Purpose.WEIGHTS)
KEY = keys.wrap(WORDS)


def test_layout():
  assert LAYOUT.names == (
    'conv_0/bias',
    'conv_0/kernel',
    'dense_0/bias',
    'dense_0/kernel',
  )
  assert LAYOUT.fan_ins == (18, 18, 32, 32)
  assert LAYOUT.num_parameters == 8 + 144 + 100 + 3200


def test_ravel_inverts_unravel():
  flat = jnp.arange(LAYOUT.num_parameters, dtype=jnp.float32)
  params = masks.unravel(LAYOUT, flat)
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, PARAMS)
  np.testing.assert_array_equal(masks.ravel(LAYOUT, params), flat)
  assert params['conv_0']['kernel'][0, 0, 0, 0] == 8


def test_a_layer_without_a_fan_in_is_an_error():
  with pytest.raises(ValueError, match="fan-in of 'norm/scale'"):
    masks.layout_of({'norm': {'scale': np.zeros(3)}})


# SHA-256 of the little-endian float32 weights of LAYOUT, seed 0, gain e.
GOLDEN = {
  'signed_constant': 'f31d13f1aef5716a',
  'uniform': '6e7021b70f3f1bff',
  'normal': '46e8c45ca12d66d9',
}


@pytest.mark.parametrize('kind', masks.WEIGHTS)
def test_golden_weights(kind):
  """A shipped model is its seed: these must never change."""
  weights = np.asarray(masks.weights(WORDS, LAYOUT, kind=kind))
  digest = hashlib.sha256(weights.astype('<f4').tobytes()).hexdigest()
  assert digest[:16] == GOLDEN[kind]
  jitted = jax.jit(lambda: masks.weights(WORDS, LAYOUT, kind=kind))()
  np.testing.assert_array_equal(weights, jitted)


@pytest.mark.parametrize('kind', masks.WEIGHTS)
def test_weights_have_the_stated_distribution(kind):
  layout = masks.layout_of({'dense': {'kernel': np.zeros((400, 500))}})
  weights = np.asarray(masks.weights(WORDS, layout, kind=kind, gain=2.0))
  scale = 2.0 / math.sqrt(400)
  n = weights.size
  assert abs(weights.mean()) < 4 * scale / n**0.5
  fourth = {'signed_constant': 1.0, 'uniform': 9 / 5, 'normal': 3.0}[kind]
  error = 4 * ((fourth - 1) / n) ** 0.5 + 1e-4
  assert abs((weights**2).mean() / scale**2 - 1) < error
  assert abs((weights**4).mean() / scale**4 / fourth - 1) < 0.05
  if kind == 'signed_constant':
    assert set(np.unique(weights)) == {-np.float32(scale), np.float32(scale)}
  if kind == 'uniform':
    assert abs(weights).max() < scale * 3**0.5


def test_other_layers_do_not_change_a_tensor():
  alone = masks.layout_of({'dense_0': PARAMS['dense_0']})
  np.testing.assert_array_equal(
    masks.split(LAYOUT, masks.weights(WORDS, LAYOUT))[3],
    masks.split(alone, masks.weights(WORDS, alone))[1],
  )


def test_weights_differ_between_tensors_and_blocks():
  layout = masks.layout_of(
    {f'dense_{i}': {'kernel': np.zeros((64, 64))} for i in range(3)}
  )
  signs = np.sign(masks.weights(WORDS, layout)).reshape(6, 2048)
  correlation = signs @ signs.T / 2048 - np.eye(6)
  assert abs(correlation).max() < 5 / 2048**0.5


@given(st.integers(1, 65535))
def test_quantise_keeps_what_it_made(q):
  q = jnp.array([q], jnp.uint16)
  assert masks.quantise(masks.theta_of(q)) == q
  assert masks.quantise(jax.nn.sigmoid(masks.scores_of(q))) == q


def test_quantise_clips_to_what_can_be_coded():
  theta = jnp.array([0.0, 1e-9, 0.25, 1 - 1e-9, 1.0])
  assert masks.quantise(theta).tolist() == [1, 1, 16384, 65535, 65535]


def test_sample_is_bernoulli(rng):
  q = jnp.asarray(rng.integers(1, 65536, 400), jnp.uint16)
  draw = lambda i: masks.sample(jax.random.fold_in(KEY, i), q)
  n = 2000
  frequency = np.mean(jax.lax.map(draw, jnp.arange(n)), axis=0)
  p = np.asarray(q) / 65536
  z = (frequency - p) / np.sqrt(p * (1 - p) / n + 1e-12)
  assert abs(z).max() < 4.5
  assert abs(z.std() - 1) < 0.15


def test_sample_is_exact_at_the_ends():
  u = dithers.bits16(KEY, 65536)
  for q, zeros in ((1, u == 0), (65535, u < 65535)):
    mask = masks.sample(KEY, jnp.full(65536, q, jnp.uint16))
    np.testing.assert_array_equal(mask, zeros)


def test_sample_under_vmap_equals_a_loop():
  q = jnp.full((3, 50), 30000, jnp.uint16)
  many = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(3))
  looped = [masks.sample(many[i], q[i]) for i in range(3)]
  np.testing.assert_array_equal(jax.vmap(masks.sample)(many, q), looped)


def test_sample_of_a_tree_is_that_of_its_vector(rng):
  """So is the gradient: a client trains tensors, all others see vectors."""
  layout = masks.layout_of(
    {
      'b': {'kernel': np.zeros((3, 5, 2)), 'bias': np.zeros(2)},
      'a': {'kernel': np.zeros((7, 4))},
    }
  )
  d = layout.num_parameters
  q = jnp.asarray(rng.integers(1, 65536, d), jnp.uint16)
  tree = masks.sample(KEY, masks.unravel(layout, q))
  np.testing.assert_array_equal(masks.ravel(layout, tree), masks.sample(KEY, q))
  vectors = jnp.float32(rng.uniform(size=(3, d)))
  trees = [masks.unravel(layout, vector) for vector in vectors]
  np.testing.assert_array_equal(
    masks.ravel(layout, masks.scores_gradient(*trees)),
    masks.scores_gradient(*vectors),
  )


def test_straight_through_gradient_by_hand():
  """One weight, loss (w m - 1)^2, w = 2, theta = 1/4, m = 1: by paper."""
  weights, theta = jnp.array([2.0]), jnp.array([0.25])
  params_gradient = 2 * (weights * 1 - 1)  # = 2
  identity = masks.scores_gradient(params_gradient, weights, theta)
  assert identity[0] == pytest.approx(2 * 2 * 0.25 * 0.75)
  official = masks.scores_gradient(
    params_gradient, weights, theta, estimator='official'
  )
  assert official[0] == pytest.approx(2 * 2 * 0.25 * 0.25 * 0.75)


def test_identity_estimator_is_autodiff_of_the_mean_network():
  """For a loss linear in the mask the estimator is exact: d E[loss] / ds."""
  weights = jnp.array([0.5, -1.5, 2.0])
  scores = jnp.array([0.3, -2.0, 1.0])
  slope = jnp.array([1.0, 2.0, -3.0])
  expected = jax.grad(lambda s: slope @ (weights * jax.nn.sigmoid(s)))(scores)
  got = masks.scores_gradient(slope, weights, jax.nn.sigmoid(scores))
  np.testing.assert_allclose(got, expected, rtol=1e-6)
