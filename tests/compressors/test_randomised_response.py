"""Randomised response against its law, counted in integers.

Contracts that every compressor keeps are tested in test_every_compressor.py,
laws that every method obeys in tests/simulation/test_methods.py.
"""

import fractions
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import fedpm_jax as fp
from fedpm_jax import compressors, masks
from fedpm_jax.algorithms import fedpm
from fedpm_jax.codecs import CODECS, SideInformation
from fedpm_jax.compressors import randomised_response
from fedpm_jax.experiments import build
from fedpm_jax.prng import dithers, keys
from fedpm_jax.protocol import aggregate
from fedpm_jax.protocol.method import compose

MAKE = compressors.COMPRESSORS['randomised_response']
ALL = np.arange(masks.SCALE, dtype=np.uint16)  # every value of a dither
EPSILONS = (0.001, 0.5, 1.0, math.log(3), 2.0, 4.0, 10.0)
ANY_EPSILON = st.floats(*randomised_response.EPSILONS)


def made(epsilon, size=masks.SCALE):
  return MAKE(masks.Layout(('a/kernel',), ((size,),), (1,)), epsilon=epsilon)


def ones_of(q, flips):
  """In how many of 2^32 cases a one arrives, by the law; exact."""
  return q * (masks.SCALE - flips) + (masks.SCALE - q) * flips


def draws(monkeypatch, of_mask, of_flips):
  """Makes the compressor draw these, first for the mask or first for flips."""
  key = keys.derive(0, keys.Purpose.UPLINK)
  own = np.asarray(jax.random.key_data(key)).tolist()

  def bits16(asked, size):
    is_own = np.asarray(jax.random.key_data(asked)).tolist() == own
    return jnp.broadcast_to(of_mask if is_own else of_flips, (size,))

  monkeypatch.setattr(dithers, 'bits16', bits16)
  return key


@pytest.mark.parametrize('epsilon', EPSILONS)
@pytest.mark.parametrize('q', [1, 2, 700, 32768, 65534, 65535])
def test_the_law_of_a_bit_by_brute_force_over_all_dithers(
  q, epsilon, monkeypatch
):
  """All 65536 dithers of the mask, all 65536 of the flip, each once."""
  compressor, theta = made(epsilon), jnp.full(masks.SCALE, q, jnp.uint16)
  flips = compressor.flips

  def ones(of_mask, of_flips):
    key = draws(monkeypatch, of_mask, of_flips)
    return int(compressor.compress(key, theta, theta).sum())

  # One of the two has every value, the other a value on each side of its edge.
  assert ones(ALL, np.uint16(flips)) == ones(ALL, np.uint16(65535)) == q
  assert ones(ALL, np.uint16(flips - 1)) == masks.SCALE - q
  assert ones(np.uint16(q), ALL) == flips
  assert ones(np.uint16(q - 1), ALL) == masks.SCALE - flips
  # So ones arrive in q (65536 - flips) + (65536 - q) flips of 2^32 cases.
  f = fractions.Fraction(flips, masks.SCALE)
  law = fractions.Fraction(ones_of(q, flips), 2**32)
  assert law == f + (1 - 2 * f) * fractions.Fraction(q, masks.SCALE)


def test_mask_and_flips_are_drawn_apart():
  """Chi-square of what a key draws; the cells are those of the product."""
  size, q = 2**18, 20_000
  compressor, key = made(1.0, size), keys.derive(3, keys.Purpose.UPLINK)
  theta = jnp.full(size, q, jnp.uint16)
  mask = np.asarray(masks.sample(key, theta))
  flipped = np.asarray(compressor.compress(key, theta, theta)) ^ mask
  cells = np.bincount(2 * mask + flipped, minlength=4)
  p, f = q / masks.SCALE, compressor.flips / masks.SCALE
  law = np.outer([1 - p, p], [1 - f, f]).ravel()
  assert stats.chisquare(cells, size * law).pvalue > 1e-3
  other = keys.derive(3, keys.Purpose.UPLINK, client=1)
  sent = compressor.compress(other, theta, theta)
  others = np.asarray(sent) ^ np.asarray(masks.sample(other, theta))
  assert np.corrcoef(flipped, others)[0, 1] < 4 / math.sqrt(size)


@given(ANY_EPSILON)
def test_no_bit_tells_more_than_epsilon(epsilon):
  """For every pair of theta, in integers: they differ by flips at most."""
  flips = made(epsilon, 1).flips
  one = ones_of(np.arange(1, masks.SCALE, dtype=np.int64), flips)
  for cases in (one, 2**32 - one):
    largest, least = int(cases.max()), int(cases.min())
    assert largest * flips <= least * (masks.SCALE - flips)
  # Theta of 0 and 1, which no client has, would reach the bound.
  assert ones_of(masks.SCALE, flips) * flips == (
    ones_of(0, flips) * (masks.SCALE - flips)
  )


@given(ANY_EPSILON)
def test_epsilon_is_what_was_asked_for_or_the_next_below(epsilon):
  flips = made(epsilon, 1).flips
  realised = randomised_response.epsilon_of(flips)
  assert realised == pytest.approx(math.log(masks.SCALE / flips - 1))
  assert 0 < realised <= epsilon
  if flips > 1:
    assert randomised_response.epsilon_of(flips - 1) >= epsilon


def counting(epsilon):
  """A method's aggregation whose server keeps the counts that it is given."""
  network = toy.network()
  algorithm = fedpm.fedpm(network, optax.adam(0.1))._replace(
    server_update=lambda state, total, count, t: (total, count)
  )
  compressor = MAKE(network.layout, epsilon=epsilon)
  method = compose(
    network,
    algorithm,
    compressor,
    uplink='bitpack',
    downlink='theta_raw',
  )
  return method, aggregate.make(method)


@pytest.mark.parametrize('epsilon', [0.5, 1.0, 4.0])
@pytest.mark.parametrize('thetas', [(0.2,), (0.9, 0.1), (0.01, 0.5, 0.3, 0.99)])
def test_counts_have_the_mean_of_the_true_counts(epsilon, thetas):
  """The mean over all outcomes, each with its exact probability."""
  method, aggregation = counting(epsilon)
  size = method.network.layout.num_parameters
  levels = [round(theta * masks.SCALE) for theta in thetas]
  mean = 0.0
  for bits in itertools.product([0, 1], repeat=len(thetas)):
    total = aggregation.start()
    for bit in bits:
      sent = np.packbits(np.full(size, bit, np.bool_))
      total = aggregation.add(total, np.zeros(4, np.uint32), sent, total)
    counts, _ = aggregation.finish(0, total, len(thetas), 0)
    chance = math.prod(
      fractions.Fraction(x if bit else 2**32 - x, 2**32)
      for bit, q in zip(bits, levels, strict=True)
      for x in [ones_of(q, method.compressor.flips)]
    )
    assert np.ptp(counts) == 0
    mean += float(chance) * float(counts[0])
  assert mean == pytest.approx(sum(levels) / masks.SCALE, abs=1e-5)


def test_counts_of_other_compressors_are_what_arrived():
  network = toy.network()
  algorithm = fedpm.fedpm(network, optax.adam(0.1))._replace(
    server_update=lambda state, total, count, t: (total, count)
  )
  compressor = compressors.COMPRESSORS['bernoulli'](network.layout)
  aggregation = aggregate.make(
    compose(
      network, algorithm, compressor, uplink='bitpack', downlink='theta_raw'
    )
  )
  counts, _ = aggregation.finish(0, aggregation.start(), 3, 0)
  assert counts.dtype == np.int32


@pytest.mark.parametrize('schedule', ['every', 'never'])
def test_the_beta_update_holds_outside_of_the_counts(schedule, rng):
  """Estimates beyond [0, K]: theta stays in its clip, sums stay unclipped."""
  network, clients = toy.network(), 4
  size = network.layout.num_parameters
  algorithm = fedpm.fedpm(
    network, optax.adam(0.1), prior_schedule=schedule, theta_clip=0.05
  )
  compressor = MAKE(network.layout, epsilon=0.5)
  method = compose(
    network, algorithm, compressor, uplink='bitpack', downlink='theta_raw'
  )
  aggregation = aggregate.make(method)
  init = jax.jit(algorithm.init)  # gives alpha and beta arrays of their own
  state, _ = init(keys.derive(0, keys.Purpose.SCORES))
  f, seen, rounds = compressor.flips / masks.SCALE, np.zeros(size), 0
  for t in range(5):
    sent = rng.random((clients, size)) < 0.7
    sent[:, :2] = [0, 1]  # all of them, none of them
    if schedule == 'every':
      seen, rounds = np.zeros(size), 0
    seen, rounds = seen + sent.sum(0), rounds + clients
    state, _ = aggregation.finish(
      state, jnp.asarray(sent.sum(0), jnp.int32), clients, t
    )
    ones = (seen - rounds * f) / (1 - 2 * f)
    assert ones.min() < 0
    assert ones.max() > rounds
    np.testing.assert_allclose(state.alpha, 1 + ones, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(state.alpha + state.beta, 2 + rounds, rtol=1e-5)
    theta = np.clip(ones / rounds, 0.05, 0.95)
    np.testing.assert_allclose(masks.theta_of(state.q), theta, atol=2e-5)


# The wire -------------------------------------------------------------------


def configuration(**changes):
  config = fp.config()
  config.update_from_flattened_dict(
    {
      'wire.compressor': 'randomised_response',
      'wire.uplink': 'per_level',
      'wire.private_randomness': True,
    }
    | changes
  )
  return config


@pytest.mark.parametrize('name', ['bitpack', 'frequency', 'per_tensor'])
def test_codecs_that_know_nothing_of_the_client_are_taken(name):
  build.check(configuration(**{'wire.uplink': name}))
  build.check(configuration())


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'wire.uplink': 'dither'},
      "'dither' is for masks .*'randomised_response'",
    ),
    ({'wire.uplink': 'prior'}, "what 'randomised_response' .*Use 'per_level'"),
    ({'wire.uplink': 'index'}, 'index'),
    ({'algorithm': 'fedmask'}, "'fedmask' sends a mask .* turns a theta into"),
    ({'algorithm': 'fedavg', 'wire.downlink': 'raw'}, 'sends a delta'),
    ({'randomised_response.epsilon': 0.0}, r'epsilon must lie in \[0\.001, 10'),
    ({'randomised_response.epsilon': -1.0}, r"got -1.*compressor 'bernoulli'"),
    ({'randomised_response.epsilon': 10.1}, r'\[0\.001, 10\], got 10\.1'),
    ({'randomised_response.epsilon': math.inf}, 'epsilon must be finite'),
    ({'randomised_response.epsilon': math.nan}, 'epsilon must be finite'),
  ],
)
def test_what_does_not_go_with_it(changes, message):
  for private in (True, False):
    config = configuration(**{'wire.private_randomness': private} | changes)
    with pytest.raises(ValueError, match=message) as caught:
      build.check(config)
    assert '\n' not in str(caught.value)


def test_per_level_finds_out_the_law_that_prior_would_miss(rng):
  """Within 1 % of the entropy; `prior` takes theta for the frequency."""
  size = 200_000
  compressor, key = made(1.0, size), keys.derive(0, keys.Purpose.UPLINK)
  theta_g = rng.choice(np.array([655, 15_000, 33_000, 64_881], np.uint16), size)
  sent = np.asarray(compressor.compress(key, theta_g, theta_g))
  side = SideInformation(q=theta_g, sizes=(size,))
  bits = {
    name: 8 * len(CODECS[name].encode(sent, side)) / size
    for name in ('per_level', 'frequency', 'prior')
  }
  p = ones_of(theta_g.astype(np.int64), compressor.flips) / 2**32
  entropy = stats.bernoulli.entropy(p).mean() / math.log(2)
  assert bits['per_level'] == pytest.approx(entropy, rel=0.01)
  assert bits['per_level'] < 0.97 * bits['frequency']
  assert bits['prior'] > 1.3
