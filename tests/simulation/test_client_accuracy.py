"""Accuracy by client against brute force, closed forms and laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.data import partition
from fedpm_jax.simulation import client_accuracy


def brute_force(hits, test_labels, labels):
  """Every training example of a client is tested as all of its class are."""
  scores = []
  for label in labels:
    of_class = [h for h, t in zip(hits, test_labels, strict=True) if t == label]
    if of_class:
      scores.append(sum(of_class) / len(of_class))
  return sum(scores) / len(scores) if scores else None


def counts(test_labels, hits, classes):
  """Test examples of each class: those that are right, and all."""
  right = np.bincount(test_labels[hits], minlength=classes)
  return right, np.bincount(test_labels, minlength=classes)


@pytest.mark.parametrize('classes', [2, 3, 5])
def test_a_tiny_example_by_brute_force(rng, classes):
  """Of the last class there is no test example."""
  for _ in range(20):
    test_labels = rng.integers(0, classes - 1, 13)
    hits = rng.random(13) < 0.6
    parts = [rng.integers(0, classes, n) for n in rng.integers(1, 9, 11)]
    parts[3] = np.full(2, classes - 1)  # has no accuracy
    table = np.stack([np.bincount(p, minlength=classes) for p in parts])
    got = client_accuracy.of_clients(*counts(test_labels, hits, classes), table)
    expected = [brute_force(hits, test_labels, part) for part in parts]
    assert expected[3] is None
    expected = [x for x in expected if x is not None]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(
  ('clients', 'worst'), [(1, 1), (9, 1), (10, 1), (19, 1), (20, 2), (35, 3)]
)
def test_the_worst_tenth_is_of_one_client_at_least(rng, clients, worst):
  """Client k holds class k alone, so its accuracy is that of the class."""
  right = rng.permutation(clients)
  row = client_accuracy.metrics(
    right, np.full(clients, 50), np.eye(clients, dtype=int)
  )
  assert row['eval/client_accuracy_mean'] == pytest.approx(right.mean() / 50)
  assert row['eval/client_accuracy_worst_tenth'] == pytest.approx(
    np.arange(worst).mean() / 50
  )


def test_clients_that_all_look_like_the_test_set_have_its_accuracy(rng):
  test_labels = np.arange(60) % 4
  hits = rng.random(60) < 0.7
  table = np.full((7, 4), 5)
  row = client_accuracy.metrics(*counts(test_labels, hits, 4), table)
  assert row['eval/client_accuracy_mean'] == pytest.approx(hits.mean())
  assert row['eval/client_accuracy_worst_tenth'] == pytest.approx(hits.mean())


@pytest.mark.parametrize('kind', partition.PARTITIONS)
def test_weighted_by_size_any_partition_has_the_accuracy_of_the_whole(
  rng, kind
):
  """The law of total probability, where every training example is used."""
  labels = rng.permutation(np.repeat(np.arange(5), 40))
  right, examples = rng.integers(0, 9, 5), np.full(5, 8)
  parts = partition.split(
    kind, labels, num_clients=10, seed=0, classes_per_client=2, alpha=0.3
  )
  assert sum(map(len, parts)) == len(labels)
  table = partition.label_counts(parts, labels, 5)
  of_clients = client_accuracy.of_clients(right, examples, table)
  sizes = [len(part) for part in parts]
  assert np.average(of_clients, weights=sizes) == pytest.approx(
    right.sum() / examples.sum()
  )


def test_without_any_class_in_common_there_is_no_number():
  row = client_accuracy.metrics(
    np.array([3, 0]), np.array([4, 0]), np.array([[0, 2]])
  )
  assert row == {}


tables = st.integers(1, 6).flatmap(
  lambda classes: st.lists(
    st.lists(st.integers(0, 10**6), min_size=classes, max_size=classes),
    min_size=1,
    max_size=20,
  )
)


@given(tables, st.data())
def test_every_accuracy_is_a_share(table, data):
  """Also after rounding: a network without mistakes has 1 to the bit."""
  table = np.array(table)
  size = table.shape[1]
  examples = np.array(
    data.draw(st.lists(st.integers(0, 10**5), min_size=size, max_size=size))
  )
  right = np.array([data.draw(st.integers(0, n)) for n in examples.tolist()])
  found = client_accuracy.of_clients(right, examples, table)
  assert ((found >= 0) & (found <= 1)).all()
  row = client_accuracy.metrics(right, examples, table)
  if row:
    mean, worst = row.values()
    assert 0 <= worst <= 1
    assert 0 <= mean <= 1
    assert worst <= mean + 1e-12
  perfect = client_accuracy.of_clients(examples, examples, table)
  assert (perfect == 1).all()
