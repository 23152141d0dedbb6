"""Masks that are drawn from theta lie at it, and poisoned ones do not."""

import math

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

import fedpm_jax as fp
from fedpm_jax.experiments import build
from fedpm_jax.experiments import config as configs
from fedpm_jax.protocol import robust

SIZES = (64, 100_000, 10)


def plain_distance(q, sizes, mask):
  """The definition, bit by bit, in fractions of 65536."""
  farthest, start = 0.0, 0
  for size in sizes:
    sums = [0] * 16
    for i in range(start, start + size):
      sums[int(q[i]) * 16 // 65536] += 65536 * int(mask[i]) - int(q[i])
    share = sum(abs(x) for x in sums) / (65536 * size)
    farthest = max(farthest, share - 5 / math.sqrt(size))
    start += size
  return farthest


def distance(q, sizes, mask):
  return robust.distance_from(q.astype(np.uint16), sizes)(np.packbits(mask))


@given(
  st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(0, 999)
)
def test_distance_equals_the_plain_loop(sizes, seed):
  rng = np.random.default_rng(seed)
  q = rng.integers(1, 65536, sum(sizes))
  for density in (0.0, 0.5, 1.0, rng.random()):
    mask = rng.random(q.size) < density
    expected = plain_distance(q, sizes, mask)
    assert distance(q, tuple(sizes), mask) == expected


def test_edges_of_bins_are_exact():
  """No bit moves to the next bin, and no sum is rounded."""
  n = 6400
  for q in (1, 4095, 4096, 32767, 32768, 61439, 61440, 65535):
    theta = np.full(n, q)
    ones = distance(theta, (n,), np.ones(n, bool))
    assert ones == max(0, (65536 - q) * n / (65536 * n) - 5 / 80)
  # Half of the bits just below an edge and half at it: debts do not cancel.
  both = np.repeat([32767, 32768], n // 2)
  mask = both == 32767
  expected = ((65536 - 32767) + 32768) / (2 * 65536)
  assert distance(both, (n,), mask) == pytest.approx(expected - 5 / 80)


def sigmoid_normal(rng, size, std=1.0):
  theta = 1 / (1 + np.exp(-std * rng.normal(size=size)))
  return np.clip(np.rint(65536 * theta), 1, 65535).astype(int)


THETAS = {
  'half': lambda rng, n: np.full(n, 32768),
  'uniform': lambda rng, n: rng.integers(1, 65536, n),
  'first': sigmoid_normal,
  'wide': lambda rng, n: sigmoid_normal(rng, n, 4.0),
  'levels': lambda rng, n: rng.choice([655, *range(6554, 65536, 6554)], n),
  'ends': lambda rng, n: rng.choice([1, 65535], n),
  'middles of bins': lambda rng, n: rng.integers(0, 16, n) * 4096 + 2048,
}


@pytest.mark.parametrize('name', THETAS)
def test_masks_drawn_from_any_theta_have_no_distance(name, rng):
  """The chance of one failure is below 400 tensors x exp(-18) = 6e-6."""
  for size in (26, 300, 10_000):
    q = THETAS[name](rng, size)
    for _ in range(20):
      mask = rng.integers(0, 65536, size) < q
      assert distance(q, (size,), mask) == 0


def test_chance_is_what_the_binomial_law_says(rng, monkeypatch):
  """All theta 1/2: n D = |B - n/2|, of which mean and variance are known."""
  n, draws = 400, 2000
  monkeypatch.setattr(robust, '_CHANCE', 0.0)
  q = np.full(n, 32768)
  found = [distance(q, (n,), rng.random(n) < 0.5) for _ in range(draws)]
  # E |B - n/2| = (n/2) C(n, n/2) / 2^n, E (B - n/2)^2 = n/4.
  mean = math.comb(n, n // 2) / 2**n / 2
  variance = 1 / (4 * n) - mean**2
  error = math.sqrt(variance / draws)
  assert np.mean(found) == pytest.approx(mean, abs=4 * error)
  assert np.var(found) == pytest.approx(variance, rel=0.15)
  assert mean < 2 / math.sqrt(n)


# kind: (what is sent, D that is expected of it)
KINDS = {
  'ones': (
    lambda mask, theta, rng: np.ones_like(mask),
    lambda theta: 1 - theta.mean(),
  ),
  'zeros': (
    lambda mask, theta, rng: np.zeros_like(mask),
    lambda theta: theta.mean(),
  ),
  'inverted': (
    lambda mask, theta, rng: ~mask,
    lambda theta: np.abs(1 - 2 * theta).mean(),
  ),
  'coins': (
    lambda mask, theta, rng: rng.random(mask.size) < 0.5,
    lambda theta: np.abs(0.5 - theta).mean(),
  ),
  'against theta': (
    lambda mask, theta, rng: theta < 0.5,
    lambda theta: np.maximum(theta, 1 - theta).mean(),
  ),
  'threshold of theta': (
    lambda mask, theta, rng: theta >= 0.5,
    lambda theta: np.minimum(theta, 1 - theta).mean(),
  ),
}


@pytest.mark.parametrize('theta_name', ['first', 'levels'])
@pytest.mark.parametrize('kind', KINDS)
def test_each_attack_has_the_distance_of_its_closed_form(kind, theta_name, rng):
  send, expected = KINDS[kind]
  n = SIZES[1]
  q = np.concatenate([THETAS[theta_name](rng, size) for size in SIZES])
  theta = q / 65536
  mask = rng.random(q.size) < theta
  inside = slice(SIZES[0], SIZES[0] + n)
  want = expected(theta[inside]) - 5 / math.sqrt(n)
  assert want > 0.1
  # Noise of at most 2 / sqrt(n) in the mean, and more in the small tensors.
  found = distance(q[inside], (n,), send(mask, theta, rng)[inside])
  assert found == pytest.approx(want, abs=0.01)
  assert distance(q, SIZES, send(mask, theta, rng)) > 0.1
  assert distance(q, SIZES, mask) == 0


def test_a_small_layer_cannot_hide_in_a_large_network(rng):
  sizes = (500_000, 2_560)
  q = sigmoid_normal(rng, sum(sizes))
  mask = rng.random(q.size) < q / 65536
  mask[sizes[0] :] ^= True
  assert distance(q, sizes, mask) > 0.1
  assert distance(q, (q.size,), mask) == 0


def test_account_names_the_round_and_the_clients():
  left_out = {3: 0.25, 11: 0.5}
  line = (
    'Round 7: masks farther from theta than config.robust.max_distance = 0.02'
    ' count for nothing, those of clients 3 (0.250), 11 (0.500).'
  )
  assert robust.account(left_out, 3, 0.02, 6) == line
  alone = robust.account(left_out, 2, 0.02, 6)
  assert alone.startswith(
    line + ' Nobody is left, so the round changes nothing'
  )


METHODS = toy.methods_table()


@pytest.mark.parametrize('name', METHODS)
def test_a_bound_is_for_masks_that_are_drawn_from_theta(name):
  config = fp.config()
  config.update_from_flattened_dict(METHODS[name])
  build.check(config)
  config.robust.max_distance = 0.02
  if config.algorithm == 'fedpm' and config.wire.compressor == 'bernoulli':
    build.check(config)
  else:
    with pytest.raises(ValueError, match=r'robust\.max_distance = 0.02 is for'):
      build.check(config)


@pytest.mark.parametrize('text', ['-0.1', 'nan', 'inf'])
def test_a_bound_is_a_number(text):
  config = fp.config()
  configs.override(config, 'robust.max_distance', text)
  with pytest.raises(ValueError, match=r'config\.robust\.max_distance must'):
    build.check(config)
