"""Evaluation counts every test example exactly once."""

import jax
import numpy as np
import pytest
import toy

from fedpm_jax import masks
from fedpm_jax.algorithms import local
from fedpm_jax.simulation import evaluate, rounds


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


@pytest.mark.parametrize('devices', [1, 2])
def test_evaluation_equals_a_plain_loop(rng, devices):
  network = toy.network()
  images, labels = toy.data(rng, 37)
  q = masks.quantise(jax.random.uniform(jax.random.key(0), (323,)))
  nets = {'mean': network.weights() * masks.theta_of(q)}
  nets['threshold'] = network.weights() * (q >= 32768)
  mesh = rounds.make_mesh(2, max_devices=devices)
  run = evaluate.make_evaluate(network, lambda *_: nets, mesh)
  batches = evaluate.padded(images, labels, batch_size=5, shards=devices)
  row = evaluate.to_metrics(run((), jax.random.key(0), *batches))
  for kind, flat in nets.items():
    params = masks.unravel(network.layout, flat)
    losses, hits = [], []
    for image, label in zip(images, labels, strict=True):
      logits = np.asarray(network.apply(params, image[None]), np.float64)[0]
      losses.append(np.log(np.exp(logits - logits[label]).sum()))
      hits.append(np.argmax(logits) == label)
    assert row[f'eval/accuracy_{kind}'] == np.mean(hits)
    assert row[f'eval/loss_{kind}'] == pytest.approx(np.mean(losses), rel=1e-5)


def test_padding_counts_nothing():
  logits = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]], np.float32)
  total = local.sums(logits, np.array([0, 0, 1]), np.array([True, True, False]))
  assert (int(total.correct), int(total.examples)) == (1, 2)
  assert total.loss == pytest.approx(2 * np.log1p(np.exp(-2)) + 2)
