"""Batch plans: every example once an epoch, whoever else takes part."""

import collections
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedpm_jax.data import batches


@st.composite
def populations(draw):
  """Disjoint, ragged parts with a random cohort and batch settings."""
  sizes = draw(st.lists(st.integers(1, 25), min_size=1, max_size=6))
  shuffled = np.random.default_rng(draw(st.integers(0, 99))).permutation(
    sum(sizes) + 5
  )
  parts = np.split(shuffled[: sum(sizes)].astype(np.int32), np.cumsum(sizes))
  cohort = draw(
    st.lists(st.integers(0, len(sizes) - 1), min_size=1, unique=True)
  )
  return (
    parts[:-1],
    np.array(cohort, np.int32),
    {'epochs': draw(st.integers(1, 3)), 'batch_size': draw(st.integers(1, 9))},
  )


@hypothesis.settings(deadline=None)
@hypothesis.given(populations(), st.integers(0, 2**32 - 1), st.integers(0, 999))
def test_laws(population, seed, round_idx):
  parts, cohort, options = population
  epochs, batch_size = options['epochs'], options['batch_size']
  arguments = {'seed': seed, 'round_idx': round_idx} | options
  plan = batches.plan(parts, cohort, **arguments)

  largest = max(len(part) for part in parts)
  steps = epochs * -(-largest // batch_size)
  assert batches.steps_per_round(parts, **options) == steps
  assert plan.indices.shape == (len(cohort), steps, batch_size)
  assert plan.valid.shape == plan.indices.shape
  assert plan.indices.dtype == np.int32
  assert plan.valid.dtype == bool
  assert (plan.indices[~plan.valid] == 0).all()

  for row, client in enumerate(cohort):
    per_epoch = (epochs, steps // epochs, batch_size)
    indices = plan.indices[row].reshape(per_epoch)
    mask = plan.valid[row].reshape(per_epoch)
    for epoch in range(epochs):
      visited = collections.Counter(indices[epoch][mask[epoch]].tolist())
      assert visited == collections.Counter(parts[client].tolist())
      # Full batches first, then one padded batch, then empty ones.
      real = mask[epoch].sum(1)
      size = len(parts[client])
      full, rest = divmod(size, batch_size)
      expected = [batch_size] * full + [rest] * (rest > 0)
      assert real.tolist() == expected + [0] * (len(real) - len(expected))
      for step, count in zip(mask[epoch], real, strict=True):
        assert step[:count].all()

    # Alone, a client does what it does among others.
    alone = batches.plan(parts, cohort[row : row + 1], **arguments)
    np.testing.assert_array_equal(alone.indices[0], plan.indices[row])
    np.testing.assert_array_equal(alone.valid[0], plan.valid[row])


def test_the_order_depends_on_seed_round_client_and_epoch():
  parts = [np.arange(64), np.arange(64)]

  def orders(seed, round_idx):
    plan = batches.plan(
      parts, [0, 1], seed=seed, round_idx=round_idx, epochs=2, batch_size=64
    )
    return [tuple(order) for order in plan.indices.reshape(4, 64).tolist()]

  found = orders(0, 0) + orders(1, 0) + orders(0, 1)
  assert len(set(found)) == 12
  assert orders(0, 0) == found[:4]


def test_orders_are_uniform():
  parts = [np.arange(3)]
  seen = collections.Counter()
  for round_idx in range(1200):
    plan = batches.plan(
      parts, [0], seed=5, round_idx=round_idx, epochs=1, batch_size=3
    )
    seen[tuple(plan.indices.ravel().tolist())] += 1
  assert len(seen) == 6
  assert max(abs(n - 200) for n in seen.values()) < 4.5 * np.sqrt(200 * 5 / 6)


def test_the_shape_is_that_of_the_population_and_not_of_the_cohort():
  parts = [np.arange(2), np.arange(2, 40)]
  plan = batches.plan(parts, [0], seed=0, round_idx=0, epochs=2, batch_size=4)
  assert plan.valid.shape == (1, 20, 4)
  assert np.flatnonzero(plan.valid[0].any(1)).tolist() == [0, 10]


def test_a_thousand_clients_take_less_than_a_second():
  parts = np.split(np.arange(60_000, dtype=np.int32), 1000)
  start = time.process_time()
  batches.plan(
    parts, np.arange(1000), seed=0, round_idx=0, epochs=3, batch_size=20
  )
  assert time.process_time() - start < 1


def test_what_is_impossible_is_refused():
  parts = [np.arange(3), np.arange(3, 5)]
  arguments = {'seed': 0, 'round_idx': 0, 'epochs': 1, 'batch_size': 2}
  for ids in ([2], [-1], [0, 7]):
    with pytest.raises(ValueError, match=r'lie in \[0, 2\), got \['):
      batches.plan(parts, ids, **arguments)
  for name in ('epochs', 'batch_size'):
    with pytest.raises(ValueError, match=r'must be at least 1, got'):
      batches.plan(parts, [0], **(arguments | {name: 0}))
  for nothing in ([], [np.zeros(0, np.int32)]):
    with pytest.raises(ValueError, match='No client holds any example'):
      batches.steps_per_round(nothing, epochs=1, batch_size=2)
