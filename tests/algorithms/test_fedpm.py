"""The Beta update against its closed form; schedules; evaluation networks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from absl.testing import parameterized

from fedpm_jax import masks
from fedpm_jax.algorithms import fedpm, local
from fedpm_jax.prng import keys

NETWORK = toy.network()
SIZE = NETWORK.layout.num_parameters


def _algorithm(**options):
  return fedpm.fedpm(NETWORK, optax.adam(0.1), **options)


@pytest.mark.parametrize('lambda_0', [1.0, 2.5])
@pytest.mark.parametrize('every', [1, 2, 3])
def test_beta_update_is_the_closed_form(rng, lambda_0, every):
  algorithm = _algorithm(
    lambda_0=lambda_0, prior_reset_every=every, theta_clip=0.0
  )
  state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  update = jax.jit(algorithm.server_update)
  clients = 5
  ones, seen = np.zeros(SIZE), 0
  for t in range(6):
    sent = rng.random((clients, SIZE)) < 0.3
    if t % every == 0:
      ones, seen = np.zeros(SIZE), 0
    ones, seen = ones + sent.sum(0), seen + clients
    state, info = update(state, jnp.asarray(sent.sum(0)), clients, t)
    # The mode of Beta(lambda_0 + ones, lambda_0 + zeros).
    theta = (lambda_0 - 1 + ones) / (2 * lambda_0 - 2 + seen)
    expected = np.clip(np.round(theta * 65536), 1, 65535)
    np.testing.assert_allclose(np.asarray(state.q, float), expected, atol=1)
    assert info.theta_mean == pytest.approx(theta.mean(), abs=1e-5)


def test_mode_maximises_the_posterior():
  """Brute force over a grid: no theta has a higher posterior density."""
  algorithm = _algorithm(lambda_0=3.0, theta_clip=0.0)
  state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  sent = np.zeros((4, SIZE), bool)
  sent[:3, 0] = True
  state, _ = algorithm.server_update(state, jnp.asarray(sent.sum(0)), 4, 0)
  grid = np.linspace(1e-4, 1 - 1e-4, 100_001)
  for index, ones in ((0, 3), (1, 0)):
    log_density = (3 + ones - 1) * np.log(grid) + (3 + 4 - ones - 1) * np.log(
      1 - grid
    )
    best = grid[np.argmax(log_density)]
    assert int(state.q[index]) / 65536 == pytest.approx(best, abs=2e-5)


def test_theta_is_clipped_at_the_server():
  algorithm = _algorithm(theta_clip=0.01)
  state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  for ones in (0, 3):
    state, _ = algorithm.server_update(state, jnp.full(SIZE, ones), 3, 0)
    theta = np.unique(np.asarray(state.q)) / 65536
    assert theta == pytest.approx(0.99 if ones else 0.01, abs=1e-5)


@pytest.mark.parametrize('clients', [1, 7, 10])
def test_soft_counts_are_the_official_codes_average(clients):
  """Its masks are {.01, .99} before they are averaged."""
  algorithm = _algorithm(theta_clip=0.01, soft_counts=True)
  state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  for ones in range(clients + 1):
    theirs = np.mean([0.99] * ones + [0.01] * (clients - ones))
    state, _ = algorithm.server_update(
      state, jnp.full(SIZE, ones), clients, ones
    )
    theta = np.asarray(state.q) / 65536
    np.testing.assert_allclose(theta, theirs, atol=1.01 / 65536)


class ScheduleTest(chex.TestCase):
  """The server asks in a compiled program, a client outside of one."""

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(
    ('every', {'every': 1}, range(40)),
    ('every', {'every': 7}, range(0, 40, 7)),
    ('participation', {'participation': 0.1}, range(0, 40, 10)),
    ('participation', {'participation': 1.0}, range(40)),
    ('warmup', {}, [*range(15), 15, 20, 25, 30, 35]),
    ('never', {}, []),
  )
  def test_prior_schedules(self, kind, options, expected):
    reset = self.variant(fedpm.reset_schedule(kind, **options))
    assert [t for t in range(40) if reset(t)] == list(expected)


def test_initial_theta_is_the_sigmoid_of_a_normal():
  state, client = _algorithm().init(keys.derive(0, keys.Purpose.SCORES))
  scores = np.asarray(masks.scores_of(state.q))
  assert abs(scores.mean()) < 4 / SIZE**0.5
  assert abs(scores.std() - 1) < 4 / (2 * SIZE) ** 0.5
  assert client == ()
  state, _ = _algorithm(score_std=0.0).init(keys.derive(0, keys.Purpose.SCORES))
  assert (state.q == 32768).all()


def test_evaluated_networks():
  algorithm = _algorithm()
  state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  weights = np.asarray(NETWORK.weights())
  theta = np.asarray(state.q) / 65536
  draw = jax.jit(lambda key: algorithm.eval_params(state, key))
  networks = [draw(jax.random.key(i)) for i in range(400)]
  np.testing.assert_allclose(networks[0]['mean'], weights * theta, rtol=1e-6)
  np.testing.assert_array_equal(
    networks[0]['threshold'], weights * (theta >= 0.5)
  )
  kept = np.array([n['sampled'] != 0 for n in networks])
  np.testing.assert_array_equal(
    networks[0]['sampled'], np.where(kept[0], weights, 0)
  )
  z = (kept.mean(0) - theta) / np.sqrt(theta * (1 - theta) / 400)
  assert abs(z).max() < 4.5


def _divergence(scores, prior):
  """KL(theta || theta of the prior) of all bits, in nats."""
  theta, other = jax.nn.sigmoid(scores), jax.nn.sigmoid(prior)
  ones = theta * (jnp.log(theta) - jnp.log(other))
  zeros = (1 - theta) * (jnp.log(1 - theta) - jnp.log(1 - other))
  return jnp.sum(ones + zeros)


def test_the_priors_gradient_is_that_of_the_divergence(rng):
  """By automatic differentiation of the definition."""
  scores, prior = jnp.asarray(rng.normal(size=(2, 500)) * 2, jnp.float32)
  of_loss = jnp.asarray(rng.normal(size=500), jnp.float32)
  gradient = fedpm._with_prior(
    lambda scores, *_: ({'a': of_loss}, 'sums'), {'a': prior}, 0.7
  )
  found, sums = gradient({'a': scores})
  assert sums == 'sums'
  expected = of_loss + 0.7 * jax.grad(_divergence)(scores, prior)
  chex.assert_trees_all_close(found['a'], expected, rtol=2e-4, atol=2e-5)


def test_the_dearer_the_bits_the_nearer_a_client_stays():
  """At no price at all, training is that without a prior, to the bit."""
  cohort = toy.cohort(np.random.default_rng(0), [0], steps=30)
  images, labels = toy.data(np.random.default_rng(0))
  batches = local.ClientBatches(
    jnp.asarray(images), jnp.asarray(labels), cohort.indices[0], cohort.valid[0]
  )
  step_keys = jax.random.split(jax.random.key(0), 30)
  moved = []
  for price in (0.0, 0.1, 1.0, 10.0):
    algorithm = _algorithm(bit_price=price)
    state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
    received = algorithm.receive(algorithm.broadcast(state))
    update, *_ = jax.jit(algorithm.client_update)(
      received, batches, (), step_keys, step_keys[0]
    )
    theta = masks.scores_of(update), masks.scores_of(state.q)
    moved.append(float(_divergence(*theta)))
  assert moved == sorted(moved, reverse=True)
  assert moved[-1] < moved[0] / 5


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'lambda_0': 0.5}, 'lambda_0 must be at least 1, got 0.5'),
    ({'theta_clip': 0.5}, r'theta_clip must lie in \[0, 0.5\), got 0.5'),
    ({'score_std': -1.0}, 'score_std must not be negative'),
    ({'estimator': 'x'}, "one of .'identity', 'official'., got 'x'"),
    ({'prior_schedule': 'x'}, "prior_schedule must be one of .*got 'x'"),
    ({'prior_reset_every': 0}, 'prior_reset_every must be at least 1'),
  ],
)
def test_bad_constants(options, message):
  with pytest.raises(ValueError, match=message):
    _algorithm(**options)
