"""DeltaMask: flips against a mask that both ends drew."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedpm_jax import compressors, masks
from fedpm_jax.compressors import relative_entropy
from fedpm_jax.prng import keys

MAKE = compressors.COMPRESSORS['mask_delta']
KEY = keys.derive(0, keys.Purpose.UPLINK)


def layout_of(size):
  return masks.Layout(('layer/kernel',), ((size,),), (1,))


def thetas(rng, size, std):
  logits = 2 * rng.standard_normal(size)
  theta = lambda x: masks.quantise(jax.nn.sigmoid(jnp.asarray(x, jnp.float32)))
  return theta(logits + std * rng.standard_normal(size)), theta(logits)


@pytest.mark.parametrize('size', [1, 2, 3001])
def test_all_flips_are_the_mask_that_bernoulli_sends(rng, size):
  theta_k, theta_g = thetas(rng, size, 0.5)
  compressor = MAKE(layout_of(size), kappa=1)
  flips = compressor.compress(KEY, theta_k, theta_g)
  chex.assert_shape(flips, (size,))
  chex.assert_type(flips, np.bool_)
  got = compressor.decompress(KEY, flips, theta_g)
  np.testing.assert_array_equal(got, masks.sample(KEY, theta_k))


@pytest.mark.parametrize('kappa', [0.001, 0.5, 0.8])
def test_the_flips_that_moved_furthest_are_kept(rng, kappa):
  theta_k, theta_g = thetas(rng, 3001, 0.5)
  sent = lambda kappa: np.asarray(
    MAKE(layout_of(3001), kappa=kappa).compress(KEY, theta_k, theta_g)
  )
  flips, kept = sent(1), sent(kappa)
  assert not (kept & ~flips).any()
  assert abs(kept.sum() - kappa * flips.sum()) <= 1
  assert kept.any()
  moved = np.asarray(relative_entropy.divergence(theta_k, theta_g))
  assert moved[kept].min() >= moved[flips & ~kept].max()


def test_flips_left_out_stay_as_both_ends_drew_them(rng):
  theta_k, theta_g = thetas(rng, 3001, 0.5)
  compressor = MAKE(layout_of(3001), kappa=0.3)
  flips = compressor.compress(KEY, theta_k, theta_g)
  got = compressor.decompress(KEY, flips, theta_g)
  want = jnp.where(
    flips, masks.sample(KEY, theta_k), masks.sample(KEY, theta_g)
  )
  np.testing.assert_array_equal(got, want)


def test_flips_are_as_many_as_theta_moved(rng):
  theta_k, theta_g = thetas(rng, 20_000, 0.5)
  compressor = MAKE(layout_of(20_000), kappa=1)
  flips = np.asarray(compressor.compress(KEY, theta_k, theta_g))
  moved = np.abs(np.asarray(theta_k, int) - np.asarray(theta_g)) / 65536
  error = 4 * np.sqrt((moved * (1 - moved)).sum())
  assert abs(flips.sum() - moved.sum()) <= error


def test_no_step_is_no_flip(rng):
  _, theta = thetas(rng, 500, 0.0)
  compressor = MAKE(layout_of(500))
  assert not compressor.compress(KEY, theta, theta).any()


@pytest.mark.parametrize('kappa', [0.0, 1.1, float('nan')])
def test_impossible_options(kappa):
  with pytest.raises(ValueError, match='got'):
    MAKE(layout_of(9), kappa=kappa)
