"""Integer tables: exact margins, roundings right on average, sound draws."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

from fedpm_jax.data import allocation


@hypothesis.settings(deadline=None)
@hypothesis.given(
  st.lists(
    st.lists(st.integers(0, 1000), min_size=6, max_size=6).filter(any),
    min_size=1,
    max_size=4,
  ),
  st.integers(0, 10**6),
  st.integers(0, 2**32 - 1),
)
def test_apportion_rounds_to_a_neighbour(weights, total, seed):
  weights = np.array(weights)
  totals = np.full(len(weights), total)
  parts = allocation.apportion(totals, weights, np.random.default_rng(seed))
  exact = total * weights / weights.sum(1, keepdims=True)
  assert (parts.sum(1) == total).all()
  assert (np.abs(parts - exact) < 1 + 1e-6).all()
  assert (parts[weights == 0] == 0).all()


def test_apportion_is_right_on_average():
  weights = np.array([[3, 1, 1, 2]])
  rng = np.random.default_rng(0)
  parts = np.array(
    [allocation.apportion(np.array([5]), weights, rng)[0] for _ in range(4000)]
  )
  np.testing.assert_allclose(
    parts.mean(0), 5 * weights[0] / 7, atol=4.5 * 0.5 / np.sqrt(4000)
  )


@hypothesis.settings(deadline=None)
@hypothesis.given(
  st.integers(1, 6).flatmap(
    lambda n: st.tuples(
      st.lists(st.integers(0, 50), min_size=1, max_size=8),
      st.lists(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        min_size=8,
        max_size=8,
      ),
      st.lists(st.integers(0, 60), min_size=n, max_size=n),
    )
  )
)
def test_fill_serves_all_it_can(tables):
  wanted, shares, available = (np.array(table) for table in tables)
  shares = shares[: len(wanted)]
  counts = allocation.fill(wanted, shares, available, np.random.default_rng(0))
  assert counts.min() >= 0
  assert (counts.sum(1) <= wanted).all()
  assert (counts.sum(0) <= available).all()
  assert (counts[shares == 0] == 0).all()
  # Whoever went short finds all classes of its shares exhausted.
  left = available - counts.sum(0)
  short = counts.sum(1) < wanted
  assert (left[None] * (shares > 0))[short].sum() == 0


@hypothesis.settings(deadline=None)
@hypothesis.given(st.data())
def test_draw_classes_meets_every_margin(data):
  num_clients = data.draw(st.integers(1, 12))
  holders = np.array(
    data.draw(st.lists(st.integers(0, num_clients), min_size=1, max_size=8))
  )
  # Fill up the classes in turn until the margins agree: sum = clients * c.
  c = -(-holders.sum() // num_clients)
  for k in range(len(holders)):
    room = min(num_clients - holders[k], num_clients * c - holders.sum())
    holders[k] += room
  rng = np.random.default_rng(data.draw(st.integers(0, 99)))
  held = allocation.draw_classes(holders, num_clients, c, rng)
  assert set(held.ravel().tolist()) <= {0, 1}
  assert (held.sum(1) == c).all()
  np.testing.assert_array_equal(held.sum(0), holders)
