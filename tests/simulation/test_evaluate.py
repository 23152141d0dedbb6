"""Evaluation counts every test example exactly once."""

import jax
import numpy as np
import pytest
import toy

from fedpm_jax import masks
from fedpm_jax.algorithms import local
from fedpm_jax.prng import keys
from fedpm_jax.simulation import evaluate, placement


@pytest.mark.parametrize(('total', 'batch'), [(1, 5), (7, 3), (8, 4), (50, 9)])
@pytest.mark.parametrize('shards', [1, 2])
def test_padding_holds_every_example_once(rng, total, batch, shards):
  images = rng.integers(0, 256, (total, 2, 2, 1), dtype=np.uint8)
  labels = np.arange(total, dtype=np.int32)
  x, y, mask = evaluate.padded(images, labels, batch_size=batch, shards=shards)
  assert len(y) % shards == 0
  assert y.shape[1] <= batch
  assert sorted(y[mask].tolist()) == list(range(total))
  np.testing.assert_array_equal(x[mask], images[y[mask]])


@pytest.mark.parametrize(('total', 'batch'), [(0, 5), (5, 0)])
def test_nothing_to_evaluate(total, batch):
  with pytest.raises(ValueError, match='at least one example'):
    evaluate.padded(
      np.zeros((total, 2, 2, 1), np.uint8),
      np.zeros(total, np.int32),
      batch_size=batch,
      shards=1,
    )


def sampling_keys(count):
  return keys.derive(0, keys.Purpose.EVALUATE, client=np.arange(count))


@pytest.mark.parametrize('devices', [1, 2])
def test_evaluation_equals_a_plain_loop(rng, devices):
  network = toy.network()
  images, labels = toy.data(rng, 37)
  q = masks.quantise(jax.random.uniform(jax.random.key(0), (323,)))
  nets = {'mean': network.weights() * masks.theta_of(q)}
  nets['threshold'] = network.weights() * (q >= 32768)
  mesh = placement.make_mesh(2, max_devices=devices)
  run = evaluate.make_evaluate(network, lambda *_: nets, mesh)
  batches = evaluate.padded(images, labels, batch_size=5, shards=devices)
  results = run((), sampling_keys(1), *batches)
  row = evaluate.to_metrics(results)
  assert set(row) == {
    f'eval/{what}_{kind}' for what in ('accuracy', 'loss') for kind in nets
  }
  for kind, flat in nets.items():
    params = masks.unravel(network.layout, flat)
    losses, hits = [], []
    for image, label in zip(images, labels, strict=True):
      logits = np.asarray(network.apply(params, image[None]), np.float64)[0]
      losses.append(np.log(np.exp(logits - logits[label]).sum()))
      hits.append(np.argmax(logits) == label)
    assert row[f'eval/accuracy_{kind}'] == np.mean(hits)
    assert row[f'eval/loss_{kind}'] == pytest.approx(np.mean(losses), rel=1e-5)
    if kind == 'mean':
      right = np.bincount(labels[np.array(hits)], minlength=toy.CLASSES)
      np.testing.assert_array_equal(results.mean_by_class, right)


def test_padding_counts_nothing():
  logits = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]], np.float32)
  total = local.sums(logits, np.array([0, 0, 1]), np.array([True, True, False]))
  assert (int(total.correct), int(total.examples)) == (1, 2)
  assert total.loss == pytest.approx(2 * np.log1p(np.exp(-2)) + 2)


def fedpm_networks(network):
  def eval_params(q, key):
    weights = network.weights()
    return {
      'mean': weights * masks.theta_of(q),
      'sampled': weights * masks.sample(key, q),
    }

  return eval_params


def rows_of_masks(rng, counts, *, devices=1, sharp=False):
  """The metrics of n masks for each n of `counts`, on one test set."""
  network = toy.network()
  images, labels = toy.data(rng, 37)
  labels = rng.permutation(labels)  # so that masks disagree and are wrong
  theta = jax.random.uniform(jax.random.key(0), (323,))
  q = masks.quantise(theta > 0.5 if sharp else theta)
  mesh = placement.make_mesh(2, max_devices=devices)
  run = evaluate.make_evaluate(network, fedpm_networks(network), mesh)
  batches = evaluate.padded(images, labels, batch_size=5, shards=devices)
  found = [
    evaluate.to_metrics(run(q, sampling_keys(n), *batches)) for n in counts
  ]
  return network, images, labels, q, found


@pytest.mark.parametrize('devices', [1, 2])
@pytest.mark.parametrize('count', [2, 3, 8])
def test_several_masks_equal_a_plain_loop_over_keys(rng, count, devices):
  network, images, labels, q, (row,) = rows_of_masks(
    rng, [count], devices=devices
  )
  logits = []
  for i in range(count):
    key = keys.derive(0, keys.Purpose.EVALUATE, client=i)
    flat = network.weights() * masks.sample(key, q)
    params = masks.unravel(network.layout, flat)
    logits.append(np.asarray(network.apply(params, images), np.float64))
  predicted = np.argmax(logits, axis=2)
  accuracies = np.mean(predicted == labels, axis=1)
  vote, ties = [], 0
  for of_example in predicted.T.tolist():
    most = max(map(of_example.count, of_example))
    winners = [c for c in range(3) if of_example.count(c) == most]
    ties += len(winners) > 1
    vote.append(min(winners))
  assert count != 2 or ties  # the rule for ties is tried
  ensemble = np.argmax(np.mean(logits, axis=0), axis=1)
  assert row['eval/accuracy_sampled'] == accuracies[0]
  assert row['eval/accuracy_sampled_mean'] == pytest.approx(accuracies.mean())
  spread = accuracies.std(ddof=1)
  assert spread > 0
  assert row['eval/accuracy_sampled_std'] == pytest.approx(spread)
  assert row['eval/accuracy_vote'] == np.mean(np.array(vote) == labels)
  assert row['eval/accuracy_ensemble'] == np.mean(ensemble == labels)


def test_more_masks_change_no_number_of_fewer(rng):
  one, five = rows_of_masks(rng, [1, 5])[-1]
  assert {name: five[name] for name in one} == one
  assert set(five) - set(one) == {
    f'eval/accuracy_{name}'
    for name in ('sampled_mean', 'sampled_std', 'vote', 'ensemble')
  }


def test_masks_that_are_all_alike_vote_like_one(rng):
  """Where every theta is almost 0 or almost 1."""
  (row,) = rows_of_masks(rng, [4], sharp=True)[-1]
  one = row['eval/accuracy_sampled']
  for name in ('sampled_mean', 'vote', 'ensemble'):
    assert row[f'eval/accuracy_{name}'] == one
  assert row['eval/accuracy_sampled_std'] == 0
