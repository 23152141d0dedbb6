"""FedAvg, SignSGD, FedMask and edge-popup against plain loops and by hand."""

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from hypothesis import strategies as st

from fedpm_jax import compressors, masks
from fedpm_jax.algorithms import (
  edge_popup,
  fedavg,
  fedmask,
  fedpm,
  local,
  signsgd,
)
from fedpm_jax.prng import keys
from fedpm_jax.simulation import rounds

NETWORK = toy.network()
LAYOUT = NETWORK.layout
SIZE = LAYOUT.num_parameters


def _engine(algorithm, compressor, uplink, downlink):
  make = compressors.COMPRESSORS[compressor]
  method = rounds.Method(NETWORK, algorithm, make(LAYOUT), uplink, downlink)
  return toy.engine_of(method)


def test_two_rounds_of_fedavg_equal_the_plain_loop(rng):
  algorithm = fedavg.fedavg(NETWORK, optax.sgd(0.05), server_learning_rate=0.7)
  engine = _engine(algorithm, 'identity', 'raw', 'raw')
  state = engine.init()
  params = np.asarray(state.server.params)
  for t in range(2):
    cohort = toy.cohort(rng, [0, 1, 2, 3])
    deltas = toy.sgd_deltas(NETWORK, params, cohort, 0.05)
    params = params + 0.7 * deltas.mean(0)
    state, row, *_ = engine.run(state, cohort, t)
    np.testing.assert_allclose(state.server.params, params, atol=1e-5)
  assert row['server/step_norm'] == pytest.approx(
    np.linalg.norm(0.7 * deltas.mean(0)), rel=1e-3
  )
  assert np.abs(deltas).max() > 0.01  # It did train.


def test_weights_that_overflow_name_the_round(rng):
  algorithm = fedavg.fedavg(NETWORK, optax.sgd(0.05), server_learning_rate=1e38)
  engine = _engine(algorithm, 'identity', 'raw', 'raw')
  cohort = toy.cohort(rng, [0, 1, 2, 3])
  with pytest.raises(
    FloatingPointError, match=r'Round 6: the server.*step_norm'
  ):
    engine.run(engine.init(), cohort, 5)


def test_dense_weights_start_with_random_kernels_and_zero_biases():
  frozen = masks.unravel(LAYOUT, NETWORK.weights())
  chex.assert_trees_all_equal(
    masks.unravel(LAYOUT, fedavg.initial_params(NETWORK)),
    jax.tree.map(lambda x: x if x.ndim > 1 else jnp.zeros_like(x), frozen),
    strict=True,
  )


def test_a_round_of_signsgd_is_a_vote(rng):
  eta = 0.02
  algorithm = signsgd.signsgd(
    NETWORK, optax.sgd(0.05), server_learning_rate=eta
  )
  engine = _engine(algorithm, 'sign', 'frequency', 'theta_news')
  state = engine.init()
  params = np.asarray(algorithm.eval_params(state.server, None)['mean'])
  cohort = toy.cohort(rng, [0, 1, 2, 3])
  deltas = toy.sgd_deltas(NETWORK, params, cohort, 0.05)
  state, row, *_ = engine.run(state, cohort, 0)
  after = np.asarray(algorithm.eval_params(state.server, None)['mean'])
  votes = (deltas >= 0).sum(0)
  # Where a delta is a rounding error, whose sign is anyone's guess, no claim.
  sure = (np.abs(deltas) > 1e-6).all(0) | (deltas == 0).all(0)
  assert sure.mean() > 0.4
  sure &= votes != 2  # of ties see below
  expected = params + eta * np.where(votes > 2, 1, -1)
  np.testing.assert_allclose(after[sure], expected[sure], atol=1e-6)
  assert 0.5 <= row['server/agreement'] <= 1


def test_votes_come_down_with_a_bit_a_parameter(rng):
  algorithm = signsgd.signsgd(NETWORK, optax.sgd(0.05))
  engine = _engine(algorithm, 'sign', 'frequency', 'theta_news')
  state = engine.init()
  sizes = []
  for t in range(4):
    state, row, *_ = engine.run(state, toy.cohort(rng, [0, 1, 2, 3]), t)
    sizes.append(row['downlink/bytes'] / 4)
  header = 38 + 40  # and a table of levels and counts
  assert sizes[0] <= header
  assert all(size <= header + SIZE / 8 for size in sizes)


@pytest.mark.parametrize('ones', [0, 1, 2, 3])
def test_ties_are_shared_out(ones):
  algorithm = signsgd.signsgd(NETWORK, optax.sgd(0.1))
  state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  total = jnp.full(SIZE, ones, jnp.int32)
  for count in (3, 4):
    steps = []
    for t in (0, 1):
      after, info = algorithm.server_update(state, total, count, t)
      steps.append(np.asarray(after.q, int) - np.asarray(state.q, int))
      assert info.agreement == pytest.approx(max(ones, count - ones) / count)
    if 2 * ones == count:
      assert (steps[0][::2] == 1).all()
      assert (steps[0][1::2] == -1).all()
      np.testing.assert_array_equal(steps[0], -steps[1])
    else:
      assert (np.stack(steps) == (1 if 2 * ones > count else -1)).all()


@pytest.mark.parametrize('clients', [2, 4, 6, 8])
def test_ties_are_shared_out_where_clients_count_by_examples(clients):
  """Of as many examples each, whatever the rounding; one more is no tie."""
  sizes = np.arange(1, SIZE + 1)
  scale = (clients / (clients * sizes)).astype(np.float32)
  half = (sizes * (clients // 2)).astype(np.float32)
  algorithm = signsgd.signsgd(NETWORK, optax.sgd(0.1))
  state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  for more, signs in ((0, (1, -1)), (1, (1, 1)), (-1, (-1, -1))):
    total = jnp.asarray(scale * (half + more))
    after, _ = algorithm.server_update(state, total, clients, 0)
    steps = np.asarray(after.q, int) - np.asarray(state.q, int)
    assert (steps[::2] == signs[0]).all()
    assert (steps[1::2] == signs[1]).all()


def test_a_round_of_fedmask_by_hand(rng):
  """One step of SGD: s' = s - lr g w theta (1 - theta), m = [s' >= 0]."""
  rate = 3.0
  algorithm = fedmask.fedmask(NETWORK, optax.sgd(rate), theta_clip=0.2)
  engine = _engine(algorithm, 'mask', 'frequency', 'theta_levels')
  state = engine.init()
  q = np.asarray(state.server.q)
  theta = q / 65536
  scores = np.log(theta / (1 - theta))
  weights = np.asarray(NETWORK.weights())
  cohort = toy.cohort(rng, [0, 2], steps=1)
  images, labels = toy.data(np.random.default_rng(0))
  shares = np.zeros(SIZE)
  sure = np.ones(SIZE, bool)
  for indices, mask in zip(cohort.indices, cohort.valid, strict=True):
    seen = indices[0][mask[0]]

    def loss(params, seen=seen):
      tree = masks.unravel(LAYOUT, params)
      return local.mean_loss(
        NETWORK.apply,
        tree,
        images[seen],
        labels[seen],
        jnp.ones(len(seen), bool),
      )[0]

    masked = jnp.asarray((weights * (scores >= 0)).astype(np.float32))
    slope = theta * (1 - theta)
    after = scores - rate * np.asarray(jax.grad(loss)(masked)) * weights * slope
    shares += after >= 0
    sure &= np.abs(after) > 1e-5
  engine = toy.engine_of(engine.method, clients_per_round=2)
  state, *_ = engine.run(engine.init(), cohort, 0)
  expected = np.clip(shares / 2, 0.2, 0.8)
  got = np.asarray(state.server.q) / 65536
  assert sure.mean() > 0.9
  np.testing.assert_allclose(got[sure], expected[sure], atol=1e-4)
  assert ((scores >= 0) != (shares > 1)).any()  # Something did change.


@hypothesis.given(
  st.integers(0, 2**32 - 1),
  st.floats(0.01, 0.99),
  st.sampled_from([1.0, 1e-30, 1e30]),
)
@hypothesis.settings(max_examples=30)
def test_top_share_is_that_of_sorting(seed, density, scale):
  rng = np.random.default_rng(seed)
  values = (scale * rng.random(SIZE)).astype(np.float32)
  values[rng.random(SIZE) < 0.1] = 0
  mask = np.asarray(edge_popup.top_share(LAYOUT, jnp.asarray(values), density))
  for part, chosen in zip(
    masks.split(LAYOUT, values), masks.split(LAYOUT, mask), strict=True
  ):
    k = max(1, round(density * part.size))
    expected = part >= np.sort(part)[-k]  # of equal values all are taken
    np.testing.assert_array_equal(chosen, expected)


def test_a_score_below_zero_is_pushed_the_other_way(rng, monkeypatch):
  """What counts is |s|: its gradient by s has the sign of s."""
  algorithm = edge_popup.edge_popup(NETWORK, optax.sgd(1e-3), density=0.5)
  cohort = toy.cohort(rng, [0], steps=1)
  images, labels = map(jnp.asarray, toy.data(np.random.default_rng(0)))
  batches = local.ClientBatches(
    images, labels, cohort.indices[0], cohort.valid[0]
  )
  step_keys = keys.wrap(keys.words(0, keys.Purpose.LOCAL))[None]
  weights, scores = algorithm.receive(
    algorithm.broadcast(algorithm.init(keys.derive(0, keys.Purpose.SCORES))[0])
  )
  flip = np.where(np.arange(SIZE) % 3 == 0, -1, 1).astype(np.float32)
  moved, train = [], local.train

  def spy(gradient, optimizer, scores, *rest):
    after = train(gradient, optimizer, scores, *rest)
    moved.append(np.asarray(after[0] - scores))
    return after

  monkeypatch.setattr(fedmask.local, 'train', spy)
  for start in (scores, scores * flip):
    algorithm.client_update(
      (weights, start), batches, (), step_keys, step_keys[0]
    )
  np.testing.assert_allclose(moved[1], moved[0] * flip, atol=1e-7)
  assert np.abs(moved[0]).max() > 1e-5


def test_edge_popup_sends_the_share_it_should(rng):
  algorithm = edge_popup.edge_popup(NETWORK, optax.adam(0.03), density=0.3)
  engine = _engine(algorithm, 'mask', 'frequency', 'theta_levels')
  state = engine.init()
  for t in range(3):
    state, row, *_ = engine.run(state, toy.cohort(rng, [0, 1, 2, 3]), t)
    wanted = sum(max(1, round(0.3 * n)) for n in LAYOUT.sizes) / SIZE
    assert row['mask/density'] == pytest.approx(wanted, abs=0.02)
  final = np.asarray(algorithm.model(state.server, None))
  assert np.mean(final) == pytest.approx(wanted, abs=0.02)


def test_the_regulariser_is_a_penalty_on_theta(rng):
  """Its gradient, lambda / d theta (1 - theta), by one step of SGD."""
  cohort = toy.cohort(rng, [0], steps=1)
  images, labels = toy.data(np.random.default_rng(0))
  batches = local.ClientBatches(
    jnp.asarray(images), jnp.asarray(labels), cohort.indices[0], cohort.valid[0]
  )
  step_keys = keys.wrap(keys.words(0, keys.Purpose.LOCAL))[None]
  updates = []
  for strength in (0.0, 400.0):
    algorithm = fedpm.fedpm(NETWORK, optax.sgd(1.0), regularizer=strength)
    state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
    received = algorithm.receive(algorithm.broadcast(state))
    update, _, _ = algorithm.client_update(
      received, batches, (), step_keys, step_keys[0]
    )
    updates.append(np.asarray(masks.scores_of(update)))
  theta = np.asarray(masks.theta_of(state.q))
  expected = 400.0 / SIZE * theta * (1 - theta)
  np.testing.assert_allclose(updates[0] - updates[1], expected, atol=2e-3)


@pytest.mark.parametrize(
  ('make', 'options', 'message'),
  [
    (fedavg.fedavg, {'server_learning_rate': 0.0}, 'must be positive, got 0'),
    (signsgd.signsgd, {'server_learning_rate': -1.0}, 'must be positive'),
    (fedmask.fedmask, {'theta_clip': 0.0}, r'in \(0, 0.5\), got 0.0'),
    (fedmask.fedmask, {'score_std': 0.0}, 'score_std must be positive'),
    (edge_popup.edge_popup, {'density': 1.0}, r'in \(0, 1\), got 1.0'),
    (fedpm.fedpm, {'regularizer': -1.0}, 'at least 0, got -1.0'),
    (fedpm.fedpm, {'bit_price': -1.0}, 'bit_price must be at least 0'),
  ],
)
def test_bad_constants(make, options, message):
  with pytest.raises(ValueError, match=message):
    make(NETWORK, optax.adam(0.1), **options)
