"""Names in pictures: apart, near, and hiding nothing."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from matplotlib.text import Text

from fedpm_jax.reports import labels, style


@hypothesis.given(
  st.lists(st.floats(-0.25, 1.25), min_size=1, max_size=9),
  st.sampled_from([0.05, 0.1, 0.3]),
)
def test_heights_are_apart_in_their_order(heights, gap):
  heights = np.array(heights)
  moved = labels.apart(heights, gap)
  order = np.argsort(heights, kind='stable')
  assert (np.diff(moved[order]) >= gap - 1e-9).all()
  if gap * (len(heights) - 1) <= 1:
    assert moved.min() >= -1e-9
    assert moved.max() <= 1 + 1e-9
  else:
    assert moved.min() + moved.max() == pytest.approx(1)


def test_heights_move_as_little_as_it_takes():
  heights, gap = np.array([0.5, 0.52, 0.3, 0.9]), 0.1
  moved = labels.apart(heights, gap)
  # Brute force over a grid that holds the optimum.
  grid = np.linspace(0.25, 0.95, 71)
  best = min(
    (
      choice
      for choice in itertools.product(grid, repeat=3)
      if choice[1] - choice[0] >= gap - 1e-9
      and choice[0] - choice[2] >= gap - 1e-9
    ),
    key=lambda choice: np.sum((np.array(choice) - heights[:3]) ** 2),
  )
  np.testing.assert_allclose(moved[:3], best, atol=1e-6)
  assert moved[3] == 0.9


def test_names_hide_neither_points_nor_each_other():
  figure = style.figure(figsize=(5, 4))
  axis = figure.subplots()
  points = {f'a_method_{i}': (10**i, 0.9 + 0.01 * (i % 2)) for i in range(3)}
  points |= {f'beside_{i}': (10 + 0.1 * i, 0.91) for i in range(3)}
  for x, y in points.values():
    axis.plot(x, y, 'o')
  axis.set_xscale('log')
  labels.at_points(figure, [(axis, points)])
  figure.draw_without_rendering()
  # Boxes that touch do not overlap.
  boxes = [Text.get_window_extent(text).padded(-0.5) for text in axis.texts]
  assert [text.get_text() for text in axis.texts] == list(points)
  for one, other in itertools.combinations(boxes, 2):
    assert not one.overlaps(other)
  for place in axis.transData.transform(list(points.values())):
    assert not any(box.contains(*place) for box in boxes)
  for box in boxes:
    assert axis.bbox.x0 <= box.x0 <= box.x1 <= axis.bbox.x1
