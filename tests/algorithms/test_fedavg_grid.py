"""FedAvg on a grid against plain NumPy, and what error feedback promises."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from hypothesis import strategies as st

from fedpm_jax import compressors
from fedpm_jax.algorithms import fedavg, fedavg_grid
from fedpm_jax.prng import keys
from fedpm_jax.simulation import rounds

NETWORK = toy.network()
SIZE = NETWORK.layout.num_parameters
START = np.asarray(fedavg.initial_params(NETWORK))
KEY = keys.derive(0, keys.Purpose.SCORES)


def made(**options):
  return fedavg_grid.fedavg_grid(NETWORK, optax.sgd(0.05), **options)


def held(algorithm, state):
  """w_hat, what clients make of the broadcast."""
  return np.asarray(algorithm.receive(algorithm.broadcast(state))[0])


def test_rounds_equal_plain_numpy(rng):
  step, rate = 0.004, 0.7
  algorithm = made(step=step, server_learning_rate=rate)
  identity = compressors.COMPRESSORS['identity'](NETWORK.layout)
  engine = toy.engine_of(
    rounds.Method(NETWORK, algorithm, identity, 'raw', 'theta_news')
  )
  state = engine.init()
  params, q = START.astype(np.float64), np.full(SIZE, 2**15)
  for t in range(4):
    cohort = toy.cohort(rng, [0, 1, 2, 3])
    w_hat = (START + step * (q - 2**15)).astype(np.float32)
    params = params + rate * toy.sgd_deltas(NETWORK, w_hat, cohort, 0.05).mean(
      0
    )
    state, *_ = engine.run(state, cohort, t)
    steps = (params - START) / step
    off = np.abs(steps - (q - 2**15))
    q = np.where(off > 1, np.rint(steps).astype(int) + 2**15, q)
    np.testing.assert_allclose(state.server.params, params, atol=1e-5)
    # Where float32 decides otherwise than float64, it was a tie.
    got = np.asarray(state.server.q, int)
    tie = np.abs(off - 1) < 0.01
    tie |= np.abs(np.abs(steps - np.rint(steps)) - 0.5) < 0.01
    np.testing.assert_array_equal(got[~tie], q[~tie])
    assert tie.mean() < 0.1
    params, q = np.asarray(state.server.params, np.float64), got
    mean = algorithm.eval_params(state.server, KEY)['mean']
    np.testing.assert_array_equal(mean, held(algorithm, state.server))
    np.testing.assert_array_equal(algorithm.model(state.server, KEY), mean)
    np.testing.assert_allclose(mean, START + step * (q - 2**15), atol=1e-6)
  assert np.ptp(q) > 5  # Weights did move.


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
  seed=st.integers(0, 2**32 - 1),
  step=st.sampled_from([1e-4, 0.01, 1.0]),
  size=st.floats(0.01, 20),
  count=st.integers(1, 9),
)
def test_nothing_is_lost_and_little_is_late(seed, step, size, count):
  """All that was sent is all that was changed, but for one step."""
  rng = np.random.default_rng(seed)
  algorithm = made(step=step)
  state, _ = algorithm.init(KEY)
  changed, sent, before = 0, 0, held(algorithm, state)
  for t in range(5):
    total = (size * step * rng.standard_normal(SIZE)).astype(np.float32)
    state, _ = algorithm.server_update(state, jnp.asarray(total), count, t)
    after = held(algorithm, state)
    changed, sent = changed + total / count, sent + (after - before)
    before = after
    off = np.abs(np.asarray(state.params) - after)
    slack = 1e-5 * np.abs(START).max()
    assert off.max() <= 1.001 * step + slack
    assert np.abs(changed - sent).max() <= 1.001 * step + 5 * slack


def test_a_small_drift_arrives_and_noise_is_no_news():
  algorithm = made(step=1.0)
  state, _ = algorithm.init(KEY)
  drift = jnp.where(jnp.arange(SIZE) % 2, 0.15, 0.0)
  start, seen = np.asarray(state.q, int), []
  for t in range(40):
    noise = 0.3 if t % 2 else -0.3
    state, _ = algorithm.server_update(state, drift + noise, 1, t)
    seen.append(np.asarray(state.q, int) - start)
  assert not np.stack(seen)[:, ::2].any()
  assert (np.abs(seen[-1][1::2] - 40 * 0.15) <= 1).all()
  assert np.count_nonzero(np.diff(np.stack(seen)[:, 1])) <= 6


def test_the_first_broadcast_says_nothing_and_the_range_has_an_end():
  algorithm = made(step=1e-3)
  state, _ = algorithm.init(KEY)
  np.testing.assert_array_equal(held(algorithm, state), START)
  far = jnp.where(jnp.arange(SIZE) % 2, 1e3, -1e3)
  state, _ = jax.jit(algorithm.server_update)(state, far, 1, 0)
  assert set(np.unique(state.q)) == {1, 65535}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'step': 0.0}, 'step must be positive, got 0.0'),
    ({'server_learning_rate': -1.0}, 'server_learning_rate must be positive'),
  ],
)
def test_bad_constants(options, message):
  with pytest.raises(ValueError, match=message):
    made(**options)
