"""Names at lines and points of a picture, where they hide nothing."""

from typing import Any

import numpy as np

from fedpm_jax.reports import style

_GAP = 0.09  # of the height of the axes, between two names


def at_lines(axis: Any, lines: dict[str, Any]) -> None:
  """Names right of the axes, each at the height where its line ends.

  Names that would overlap move apart; a thin line leads to where they belong.

  Args:
    axis: has its final scale and limits.
    lines: of Matplotlib, by name.
  """
  if not lines:
    return
  ends = np.array([line.get_xydata()[-1] for line in lines.values()])
  pixels = axis.transData.transform(ends)
  heights = axis.transAxes.inverted().transform(pixels)[:, 1]
  for name, end, height in zip(lines, ends, apart(heights, _GAP), strict=True):
    colour = lines[name].get_color()
    axis.annotate(
      style.shown(name),
      end,
      (1.06, height),
      textcoords='axes fraction',
      color=colour,
      fontsize='small',
      verticalalignment='center',
      # Dotted, so that nobody takes it for a part of the line.
      arrowprops={
        'arrowstyle': '-',
        'color': colour,
        'linewidth': 0.7,
        'linestyle': (0, (1, 3)),
      },
    )


def apart(heights: np.ndarray, gap: float) -> np.ndarray:
  """The nearest heights, in the least squares, that are `gap` apart.

  Their order stays.  Within [0, 1] if there is room, else around its middle.

  Args:
    heights: float `[n]`.
    gap: the least distance of two.
  """
  order = np.argsort(heights, kind='stable')
  steps = gap * np.arange(heights.size)
  # Neighbours that would be too near share the mean of their free heights:
  # pool adjacent violators.
  pools: list[list[float]] = []
  for height in heights[order] - steps:
    pools.append([height])
    while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
      pools[-2:] = [pools[-2] + pools[-1]]
  free = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
  room = 1 - steps[-1]
  moved = steps + (np.clip(free, 0, room) if room >= 0 else room / 2)
  result = np.empty_like(moved)
  result[order] = moved
  return result


@style.any_script()
def at_points(
  figure: Any, panels: list[tuple[Any, dict[str, tuple[float, float]]]]
) -> None:
  """A name near each point, where it hides no point and no other name.

  Args:
    figure: of the panels; complete but for the names.
    panels: axes with their points, (x, y) in data, by name.
  """
  from matplotlib.text import Text

  figure.draw_without_rendering()  # so that places and sizes are known
  for axis, points in panels:
    inside = axis.get_window_extent().extents
    places = {n: axis.transData.transform(p) for n, p in points.items()}
    taken = [_box(place, np.array([8, 8])) for place in places.values()]
    for name, place in places.items():
      text = axis.annotate(
        style.shown(name),
        points[name],
        (0, 0),
        textcoords='offset points',
        fontsize='x-small',
        arrowprops={'arrowstyle': '-', 'linewidth': 0.4, 'shrinkB': 3},
      )
      text.set_in_layout(False)  # The axes stay where they are.
      extent = Text.get_window_extent(text)  # without its line
      size = np.array([extent.width, extent.height])
      shifts = _shifts(size)
      best = _best_box([_box(place + s, size) for s in shifts], taken, inside)
      text.set_position(tuple((shifts[best] - size / 2) * 72 / figure.dpi))
      taken.append(_box(place + shifts[best], size))


def _best_box(
  boxes: list[np.ndarray], taken: list[np.ndarray], inside: np.ndarray
) -> int:
  """The first of the boxes that hide least and stay inside most."""
  hidden = [sum(_overlap(box, other) for other in taken) for box in boxes]
  within = [_overlap(box, inside) for box in boxes]
  # Rounded, so that of equal ones the nearest is the first.
  return int(np.argmin(np.round(np.array(hidden) - 3 * np.array(within))))


def _shifts(size: np.ndarray) -> list[np.ndarray]:
  """From a point to the middle of its name, the nearest first, in pixels."""
  angles = np.arange(16) * np.pi / 8
  around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
  return [
    way * (size / 2 + distance)
    for distance in (6, 14, 26, 40, 56, 74)
    for way in around
  ]


def _box(middle: np.ndarray, size: np.ndarray) -> np.ndarray:
  """The corners x0, y0, x1, y1 of a rectangle."""
  return np.concatenate([middle - size / 2, middle + size / 2])


def _overlap(box: np.ndarray, other: np.ndarray) -> float:
  """The area that two boxes share."""
  low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
  return float(np.clip(high - low, 0, None).prod())
