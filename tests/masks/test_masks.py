"""Layouts, frozen weights, theta and straight-through gradients."""

import hashlib
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from fedpm_jax import masks
from fedpm_jax.prng import dithers, keys

PARAMS = {
  'conv_0': {'kernel': np.zeros((3, 3, 2, 8)), 'bias': np.zeros(8)},
  'dense_0': {'kernel': np.zeros((32, 100)), 'bias': np.zeros(100)},
}
LAYOUT = masks.layout_of(PARAMS)
WORDS = keys.words(0, keys.Purpose.WEIGHTS)
KEY = keys.wrap(WORDS)
EVERY_Q = np.arange(1, 65536, dtype=np.uint16)
# A round is compiled, a tool may not be.  Arrays come from NumPy (a message, a
# checkpoint) or lie on a device.
COMPILED_OR_NOT = {'with_jit': True, 'without_jit': True}
ANYWHERE = {**COMPILED_OR_NOT, 'with_device': True, 'without_device': True}


def test_layout():
  assert LAYOUT.names == (
    'conv_0/bias',
    'conv_0/kernel',
    'dense_0/bias',
    'dense_0/kernel',
  )
  assert LAYOUT.fan_ins == (18, 18, 32, 32)
  assert LAYOUT.num_parameters == 8 + 144 + 100 + 3200


class LayoutTest(chex.TestCase):
  """Where tensors lie, however the functions are called."""

  @chex.variants(**ANYWHERE)
  def test_unravel_cuts_in_the_order_of_the_paths(self):
    flat = np.arange(LAYOUT.num_parameters, dtype=np.float32)
    params = self.variant(lambda flat: masks.unravel(LAYOUT, flat))(flat)
    chex.assert_trees_all_equal_shapes(params, PARAMS)
    expected = {
      'conv_0': {'bias': flat[:8], 'kernel': flat[8:152].reshape(3, 3, 2, 8)},
      'dense_0': {
        'bias': flat[152:252],
        'kernel': flat[252:].reshape(32, 100),
      },
    }
    chex.assert_trees_all_equal(params, expected, strict=True)

  @chex.variants(**ANYWHERE)
  @parameterized.parameters('float32', 'uint16', 'bool')
  def test_ravel_inverts_unravel(self, dtype):
    """Scores, levels and masks are all raveled, and keep their types."""
    flat = (np.arange(LAYOUT.num_parameters) % 7).astype(dtype)
    params = masks.unravel(LAYOUT, flat)
    got = self.variant(lambda params: masks.ravel(LAYOUT, params))(params)
    chex.assert_trees_all_equal(got, flat, strict=True)


def test_a_layer_without_a_fan_in_is_an_error():
  with pytest.raises(ValueError, match="fan-in of 'norm/scale'"):
    masks.layout_of({'norm': {'scale': np.zeros(3)}})


# SHA-256 of the little-endian float32 weights of LAYOUT, seed 0, gain e.
GOLDEN = {
  'signed_constant': 'f31d13f1aef5716a',
  'uniform': '6e7021b70f3f1bff',
  'normal': '46e8c45ca12d66d9',
}


class WeightsTest(chex.TestCase):
  """Every machine must make the same ones, because they are never sent."""

  @chex.variants(**COMPILED_OR_NOT)
  @parameterized.parameters(*masks.WEIGHTS)
  def test_golden_weights(self, kind):
    """A shipped model is its seed: these must never change."""
    make = self.variant(lambda: masks.weights(WORDS, LAYOUT, kind=kind))
    weights = make()
    chex.assert_shape(weights, (LAYOUT.num_parameters,))
    chex.assert_type(weights, np.float32)
    digest = hashlib.sha256(np.asarray(weights, '<f4').tobytes()).hexdigest()
    assert digest[:16] == GOLDEN[kind]


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


class ThetaTest(chex.TestCase):
  """Theta, levels, scores and masks against NumPy, level by level."""

  @chex.variants(**ANYWHERE)
  def test_quantise_takes_the_nearest_level(self):
    """A theta halfway between two levels goes to the even one."""
    rng = np.random.default_rng(0)
    between = (np.arange(65536) + 0.5) / 65536  # exact in float32
    theta = np.concatenate([rng.uniform(size=9999), between, [0.0, 1.0]])
    theta = theta.astype(np.float32)
    expected = np.clip(np.rint(65536 * theta.astype(np.float64)), 1, 65535)
    got = self.variant(masks.quantise)(theta)
    chex.assert_trees_all_equal(got, expected.astype(np.uint16), strict=True)

  @chex.variants(**ANYWHERE)
  def test_theta_is_exact_and_scores_are_its_logit(self):
    """Every score is finite, because a client starts its training there."""
    theta = EVERY_Q / 65536
    got = self.variant(masks.theta_of)(EVERY_Q)
    chex.assert_trees_all_equal(got, theta.astype(np.float32), strict=True)
    scores = self.variant(masks.scores_of)(EVERY_Q)
    chex.assert_type(scores, np.float32)
    chex.assert_tree_all_finite(scores)
    logit = np.log(theta) - np.log1p(-theta)
    chex.assert_trees_all_close(np.float64(scores), logit, atol=2e-6, rtol=0)

  @chex.variants(**ANYWHERE)
  def test_quantise_keeps_what_it_made(self):
    """Every level does, because an untrained theta is sent as it came."""
    for back in (
      masks.theta_of,
      lambda q: jax.nn.sigmoid(masks.scores_of(q)),
    ):
      got = self.variant(lambda q, back=back: masks.quantise(back(q)))(EVERY_Q)
      chex.assert_trees_all_equal(got, EVERY_Q, strict=True)

  @chex.variants(**ANYWHERE)
  def test_a_mask_is_one_where_its_dither_is_below_theta(self):
    u = np.asarray(dithers.bits16(KEY, EVERY_Q.size))
    got = self.variant(masks.sample)(KEY, EVERY_Q)
    chex.assert_trees_all_equal(got, u < EVERY_Q, strict=True)


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
  chex.assert_trees_all_equal(
    masks.sample(KEY, masks.unravel(layout, q)),
    masks.unravel(layout, masks.sample(KEY, q)),
  )
  vectors = jnp.float32(rng.uniform(size=(3, d)))
  trees = [masks.unravel(layout, vector) for vector in vectors]
  chex.assert_trees_all_equal(
    masks.scores_gradient(*trees),
    masks.unravel(layout, masks.scores_gradient(*vectors)),
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


# What each estimator puts in place of the derivative of a mask bit by its
# score, written in the score: theta = 1 / (1 + exp(-score)).
CLOSED_FORM = {
  'identity': lambda score: np.exp(-score) / (1 + np.exp(-score)) ** 2,
  'official': lambda score: np.exp(-score) / (1 + np.exp(-score)) ** 3,
}


class EstimatorsTest(chex.TestCase):
  """Every row of `ESTIMATORS`; a new one needs its closed form above."""

  @chex.variants(**ANYWHERE)
  @parameterized.parameters(*masks.ESTIMATORS)
  def test_gradient_is_the_closed_form(self, estimator):
    rng = np.random.default_rng(0)
    scores = np.linspace(-8, 8, 1001)
    slope, weights = rng.standard_normal((2, 1001)).astype(np.float32)
    theta = (1 / (1 + np.exp(-scores))).astype(np.float32)
    got = self.variant(
      lambda *arrays: masks.scores_gradient(*arrays, estimator=estimator)
    )(slope, weights, theta)
    expected = np.float64(slope) * weights * CLOSED_FORM[estimator](scores)
    chex.assert_type(got, np.float32)
    chex.assert_equal_shape([got, scores])
    # Where theta is near 1, float32 keeps fewer digits of 1 - theta.
    chex.assert_trees_all_close(np.float64(got), expected, rtol=2e-4)
