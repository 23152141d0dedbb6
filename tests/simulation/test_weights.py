"""Clients that count by their examples: sums, thetas and foresight."""

import itertools

import chex
import jax
import numpy as np
import optax
import pytest
import toy

from fedpm_jax import algorithms, compressors, masks
from fedpm_jax.data import partition
from fedpm_jax.protocol import aggregate
from fedpm_jax.protocol.client import Client
from fedpm_jax.protocol.method import compose

WEIGHTS = np.array([5, 1, 30, 2])


def test_weights_are_the_numbers_of_examples():
  clients = [np.arange(3), np.arange(1), np.arange(7)]
  assert partition.weights('equal', clients) is None
  assert partition.weights('examples', clients).tolist() == [3, 1, 7]
  with pytest.raises(ValueError, match=r"one of.*'examples'.*got 'size'"):
    partition.weights('size', clients)


def masks_of(kept):
  """The masks of a round, as the server decoded them, bool `[K, d]`."""
  return np.unpackbits(kept.symbols, axis=1, count=kept.q.size).astype(bool)


@pytest.mark.parametrize('ids', [[0, 1, 2, 3], [1, 2]])
def test_theta_is_the_weighted_share_of_ones(rng, ids):
  engine = toy.engine_of(toy.method(toy.network()), weights=WEIGHTS)
  done = engine.run(engine.init(), toy.cohort(rng, ids), 0, keep=True)
  weights = WEIGHTS[ids].astype(np.float64)
  share = weights @ masks_of(done.kept) / weights.sum()
  theta = np.asarray(masks.theta_of(done.state.server.q))
  np.testing.assert_allclose(
    theta, np.clip(share, 0.01, 0.99), atol=1 / masks.SCALE
  )


def test_the_prior_counts_as_before(rng):
  """Weights add up to K, so they do not outweigh lambda_0."""
  net = toy.network()
  engine = toy.engine_of(toy.method(net, lambda_0=3.0), weights=WEIGHTS)
  done = engine.run(engine.init(), toy.cohort(rng, range(4)), 0, keep=True)
  ones = 4 * (WEIGHTS @ masks_of(done.kept)) / WEIGHTS.sum()
  alpha, beta, _ = jax.device_get(done.state.server)
  np.testing.assert_allclose(alpha, 3 + ones, rtol=1e-6)
  np.testing.assert_allclose(alpha + beta, 6 + 4, rtol=1e-6)


def test_equal_weights_are_no_weights(rng):
  """To the bit: sums of masks are integers, and 4 / 32 is exact."""
  method, cohort = toy.method(toy.network()), toy.cohort(rng, range(4))
  weighted = toy.engine_of(method, weights=np.full(4, 8))
  plain = toy.engine_of(method)
  found = [e.run(e.init(), cohort, 0).state.server for e in (weighted, plain)]
  chex.assert_trees_all_equal(*map(jax.device_get, found))


def test_fedavg_averages_by_examples(rng):
  rate, net = 0.05, toy.network()
  algorithm = algorithms.ALGORITHMS['fedavg'](net, optax.sgd(rate))
  method = compose(
    net,
    algorithm,
    compressors.COMPRESSORS['identity'](net.layout),
    uplink='raw',
    downlink='raw',
  )
  engine, cohort = (
    toy.engine_of(method, weights=WEIGHTS),
    toy.cohort(rng, [0, 2]),
  )
  state = engine.init()
  before = np.array(state.server.params)
  after = np.asarray(engine.run(state, cohort, 0).state.server.params)
  deltas = toy.sgd_deltas(net, before, cohort, rate)
  np.testing.assert_allclose(
    after - before, np.average(deltas, axis=0, weights=[5, 30]), atol=2e-6
  )


def test_a_client_of_its_own_foresees_the_weighted_theta(rng):
  """It decodes a broadcast that was coded by what the server expects."""
  method = toy.method(toy.network())
  engine = toy.engine_of(method, weights=WEIGHTS)
  state = engine.init()
  client = Client(method, seed=0, weights=WEIGHTS)
  memory, last = client.first_memory(), np.zeros(0, int)
  lengths = []
  for t, ids in enumerate(([0, 1, 2, 3], [0, 2, 3], [1, 2])):
    payload = engine.server.payload(state.server)
    held = jax.device_get(state.held)
    message = engine.server.broadcast(
      payload, engine.server.expected(held, t), round_idx=t
    )
    got, memory = client.open(message, memory, round_idx=t, last_ids=last)
    np.testing.assert_array_equal(got, payload)
    lengths.append(len(message))
    last = np.array(ids)
    state = engine.run(state, toy.cohort(rng, ids), t).state
  # Foreseen without the weights they are 239 and 121 bytes long.
  assert lengths[1] < 180
  assert lengths[2] < 110


def test_flipped_bits_of_weighted_clients_are_estimated_without_bias():
  """The mean over all outcomes, each with its exact probability."""
  net = toy.network()
  algorithm = algorithms.ALGORITHMS['fedpm'](net, optax.adam(0.1))
  algorithm = algorithm._replace(
    server_update=lambda state, total, count, t: (total, count)
  )
  compressor = compressors.COMPRESSORS['randomised_response'](
    net.layout, epsilon=1.0
  )
  aggregation = aggregate.make(
    compose(net, algorithm, compressor, uplink='bitpack', downlink='theta_raw')
  )
  true, weights = [1, 0, 1], np.array([5, 1, 30], np.int32)
  flip, mean = compressor.flips / masks.SCALE, 0.0
  for flips in itertools.product([0, 1], repeat=3):
    total = aggregation.start()
    for bit, flipped, weight in zip(true, flips, weights, strict=True):
      sent = np.packbits(
        np.full(net.layout.num_parameters, bit ^ flipped, bool)
      )
      words = np.zeros(4, np.uint32)
      total = aggregation.add(total, words, sent, total, weight)
    together = aggregate.weight_sum(weights, np.arange(3))
    found, _ = aggregation.finish(0, total, 3, np.int32(0), together)
    chance = flip ** sum(flips) * (1 - flip) ** (3 - sum(flips))
    mean += chance * float(found[0])
  assert mean == pytest.approx(3 * 35 / 36, abs=1e-5)
