"""What every picture is drawn with: axes that can be read, lines with names."""

import fake_runs
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedpm_jax.reports import curves, label_counts, plots, style


@hypothesis.given(
  low=st.floats(1e-6, 1e6), times=st.floats(1.001, 1e9, exclude_max=True)
)
def test_a_log_axis_has_several_ticks_and_not_too_many(low, times):
  ticks = style.log_ticks(low, low * times)
  assert 2 <= len(ticks) <= 8
  assert ticks == sorted({*ticks})
  assert low <= ticks[0] * (1 + 1e-9)
  assert ticks[-1] <= low * times * (1 + 1e-9)
  if times > 20:
    assert len(ticks) >= 3
    # None far from its neighbours, or from the ends.
    steps = np.diff(np.log([low, *ticks, low * times]))
    assert steps.max() < 0.5 * np.log(times)


@pytest.mark.parametrize(
  ('values', 'ticks'),
  [
    ([0.1, 0.5, 0.985, 0.99], {0.5, 0.9, 0.99}),
    ([0.97, 0.99], {0.97, 0.98, 0.99}),
    ([0.1, 0.7], {0.2, 0.6}),
    ([1.0, 1.0], {1.0}),
    ([0.0, 1.0], {0.5, 0.9, 1.0}),
    ([0.3], {0.3}),
    ([], set()),
  ],
)
def test_an_accuracy_axis_shows_what_is_on_it(values, ticks):
  axis = style.figure(figsize=(4, 3)).subplots()
  axis.plot(range(len(values)), values)
  style.accuracies(axis, values)
  axis.figure.draw_without_rendering()
  low, high = axis.get_ylim()
  assert all(low <= value <= high for value in values)
  inside = [t for t in axis.get_yticks() if low <= t <= high]
  assert ticks <= {round(float(t), 6) for t in inside}
  places = axis.transAxes.inverted().transform(
    axis.transData.transform([(0, t) for t in sorted(inside)])
  )
  assert np.diff(places[:, 1]).min(initial=1) > 0.08


def test_small_differences_near_one_are_not_hidden():
  axis = style.figure(figsize=(4, 3)).subplots()
  style.accuracies(axis, [0.1, 0.96, 0.98])
  axis.figure.draw_without_rendering()
  (_, a), (_, b) = axis.transAxes.inverted().transform(
    axis.transData.transform([(0, 0.96), (0, 0.98)])
  )
  assert b - a > 0.1  # 0.02 on an axis of equal steps


@pytest.fixture
def drawn(monkeypatch):
  figures = []
  monkeypatch.setattr(style, 'save', lambda figure, _: figures.append(figure))
  return figures


def test_the_first_downlink_is_no_point_and_the_axis_says_so(drawn):
  rows = [fake_runs.row(t, 0.5, 500, 600 if t else 1) for t in range(5)]
  plots.curves(rows, None)
  plots.curves([row | {'downlink/bpp_wire': 1.0} for row in rows], None)
  (_, _, rate), (_, _, other) = (figure.axes for figure in drawn)
  assert [len(line.get_xdata()) for line in rate.lines] == [5, 4]
  assert 'the first downlink, 0.004, is not drawn' in rate.get_xlabel()
  assert [len(line.get_xdata()) for line in other.lines] == [5, 5]
  assert other.get_xlabel() == 'round'
  low, high = rate.get_ylim()
  assert 0.5 < low < high < 10
  assert len(rate.get_yticks()) >= 3


def test_lines_have_names_and_no_legend_can_cover_one(drawn):
  rows = [fake_runs.row(t, 0.5, 500, 600) for t in range(5)]
  plots.curves(rows, None, title='a run')
  (figure,) = drawn
  assert figure.get_suptitle() == 'a run'
  for axis, names in zip(
    figure.axes,
    [['mean', 'sampled', 'threshold']] * 2 + [['uplink', 'downlink']],
    strict=True,
  ):
    assert axis.get_legend() is None
    assert [text.get_text() for text in axis.texts] == names
    colours = [line.get_color() for line in axis.lines]
    assert [text.get_color() for text in axis.texts] == colours


def test_a_band_is_from_the_least_to_the_greatest_seed():
  runs = [[fake_runs.row(t, a, 9, 9) for t in range(2)] for a in (0.5, 0.7)]
  found = curves.line(curves.Group('x', runs), 'eval/accuracy_mean')
  axis = style.figure().subplots()
  line = style.band(axis, found.x, found.y, 'red')
  assert line.get_ydata() == pytest.approx([0.6, 0.6])
  (area,) = axis.collections
  heights = area.get_paths()[0].vertices[:, 1]
  assert (heights.min(), heights.max()) == (0.5, 0.7)


def test_a_line_has_the_rounds_that_all_seeds_have():
  long = [fake_runs.row(t, 0.5 if t % 2 else None, 1, 2) for t in range(6)]
  found = curves.line(
    curves.Group('x', [long, long[:4]]), 'eval/accuracy_mean', by_bytes=True
  )
  assert found.x == pytest.approx(np.array([6, 12]) / 1e6)
  assert found.y.shape == (2, 2)
  lost = [row | {'train/loss': None} for row in long[:2]] + long[2:]
  assert curves.line(curves.Group('x', [lost]), 'train/loss').x.tolist() == [
    *(3, 4, 5, 6)
  ]


def test_codecs_by_tensor_are_dots_and_each_has_a_name(drawn):
  costs = [
    {
      'round_idx': t,
      'direction': 'uplink' if codec in plots.codec_costs.UPLINK else 'down',
      'codec': codec,
      'real': 1.0 + t,
      **(
        {'ideal': 0.5, 'ideal/a': 0.5, 'ideal/b': 0.25}
        if codec in plots.codec_costs.UPLINK
        else {}
      ),
    }
    for t in range(2)
    for codec in plots.codec_costs.UPLINK + plots.codec_costs.DOWNLINK
  ]
  plots.costs(costs, None, title='')
  up, down, tensors = drawn[0].axes
  for axis, names in (
    (up, plots.codec_costs.UPLINK),
    (down, plots.codec_costs.DOWNLINK),
  ):
    assert len(axis.lines) == len(names) <= style.MAX_LINES
    assert [text.get_text() for text in axis.texts] == [*names]
  assert [line.get_linestyle() for line in tensors.lines] == ['None'] * 5
  legend = [text.get_text() for text in tensors.get_legend().get_texts()]
  assert legend == [*plots.codec_costs.UPLINK]


@pytest.mark.parametrize(
  ('clients', 'classes', 'kinds'),
  [
    (1, 1, ['bars']),
    (10, 10, ['bars']),
    (60, 20, ['bars']),
    (40, 100, ['map']),
    (61, 10, ['steps'] * 3),
    (1437, 100, ['steps'] * 3),
  ],
)
def test_labels_of_few_and_of_many_clients(clients, classes, kinds):
  counts = np.random.default_rng(0).integers(0, 3, (clients, classes))
  counts[0] = 5  # Somebody has examples.
  figure = label_counts.draw(counts, 'a run')
  figure.draw_without_rendering()
  marks = [len(axis.patches) + len(axis.images) for axis in figure.axes]
  # Few enough to be told apart, and a file of a size that can be opened.
  assert sum(marks) <= 60 * 20
  found = [
    'map' if axis.images else 'bars' if axis.containers else 'steps'
    for axis in figure.axes
    if axis.get_xlabel()
  ]
  assert found == kinds


@hypothesis.given(
  st.integers(1, 90), st.integers(1, 12), st.integers(0, 2**32 - 1)
)
def test_a_digest_of_labels_adds_up(clients, classes, seed):
  counts = np.random.default_rng(seed).integers(0, 9, (clients, classes))
  found = label_counts.digest(counts)
  label_counts.check(found)
  assert found['of_class'] == counts.sum(axis=0).tolist()
  assert (found['counts'] is None) == (clients > label_counts.MOST_BARS)
  edges = found['examples']['edges']
  examples = counts.sum(axis=1)
  for low, high, count in zip(
    edges[:-1], edges[1:], found['examples']['clients'], strict=True
  ):
    is_last = high == edges[-1]
    inside = (examples >= low) & ((examples < high) | is_last)
    assert inside.sum() == count
