"""Curves of runs, a panel each: accuracy, loss, bits, densities over rounds.

A panel has a line for every group of runs that differ by their seed only, the
mean in a band from the least to the greatest.  Where there is one group, it has
a line for each of its networks, or directions.
"""

from typing import Any, NamedTuple

import numpy as np

from fedpm_jax.reports import labels, records, style

WAYS = ('uplink', 'downlink')
_PREFIX = 'eval/accuracy_'
# They lie so close to the lines of single networks that nobody could read them.
_NOT_DRAWN = ('sampled_mean', 'vote', 'ensemble')


class Group(NamedTuple):
  """Runs that differ by their seed only.

  Attributes:
    name: of the line.
    runs: the rows of each, at least one.
    colour: the same in all panels.
  """

  name: str
  runs: list[list[dict[str, Any]]]
  colour: str = style.COLOURS[0]


class Line(NamedTuple):
  """What is drawn of a group.

  Attributes:
    x: float `[points]`.
    y: float `[seeds, points]`, finite.
    colour: of Matplotlib.
  """

  x: np.ndarray
  y: np.ndarray
  colour: str


def networks(rows: list[dict[str, Any]]) -> list[str]:
  """The metrics `eval/accuracy_<kind>` that a run has, its last row says."""
  names = (name for name in rows[-1] if name.startswith(_PREFIX))
  return [name for name in names if name != records.SPREAD]


def line(group: Group, metric: str, *, by_bytes: bool = False) -> Line:
  """A metric over the rounds that all runs of the group have it in.

  Args:
    group: see `Group`.
    metric: a name in the rows.
    by_bytes: x is not the round, from 1, but what was sent until then, both
      ways, all clients, in MB: the mean over the runs.
  """
  rounds = min(map(len, group.runs))
  y = np.array(
    [[_number(row.get(metric)) for row in rows[:rounds]] for rows in group.runs]
  ).reshape(len(group.runs), rounds)
  x = np.arange(1.0, rounds + 1)
  if by_bytes:
    x = np.mean([sent(rows)[:rounds] for rows in group.runs], axis=0)
  there = np.isfinite(y).all(axis=0)
  return Line(x[there], y[:, there], group.colour)


def sent(rows: list[dict[str, Any]]) -> np.ndarray:
  """MB sent after each round, both ways, all clients."""
  return np.cumsum([sum(r[f'{w}/bytes'] for w in WAYS) for r in rows]) / 1e6


def _number(value: Any) -> float:
  return np.nan if value is None else float(value)


def accuracy(
  axis: Any, groups: list[Group], *, on: str, by_bytes: bool = False
) -> None:
  """Accuracies: of every network of one group, else of the mean network.

  Args:
    axis: of Matplotlib.
    groups: at most `style.MAX_LINES`.
    on: which set they are of, 'test' or 'validation'.
    by_bytes: see `line`.
  """
  if len(groups) == 1:
    of_networks = [
      (name.removeprefix(_PREFIX), name) for name in networks(groups[0].runs[0])
    ]
    lines = {
      kind: line(groups[0], name, by_bytes=by_bytes)._replace(colour=colour)
      for (kind, name), colour in zip(
        [pair for pair in of_networks if pair[0] not in _NOT_DRAWN],
        style.COLOURS,
        strict=False,
      )
    }
    what = f'{on} accuracy'
  else:
    lines = {
      group.name: line(group, records.ACCURACY, by_bytes=by_bytes)
      for group in groups
    }
    what = f'{on} accuracy, mean network'
  x_label = 'sent, up and down, all clients, MB' if by_bytes else 'round'
  style.panel(axis, xlabel=x_label, ylabel=what)
  style.accuracies(axis, [v for found in lines.values() for v in found.y.flat])
  ends = [found.x[-1] for found in lines.values() if found.x.size]
  is_wide = by_bytes and ends and min(ends) > 0 and max(ends) > 4 * min(ends)
  _draw(axis, lines, x_axis='log' if is_wide else '', is_round=not by_bytes)


def metric(axis: Any, groups: list[Group], name: str, label: str) -> None:
  """Any metric over rounds, a line a group.

  Args:
    axis: of Matplotlib.
    groups: at most `style.MAX_LINES`.
    name: of the metric.
    label: of the y axis.
  """
  style.panel(axis, xlabel='round', ylabel=label)
  _draw(axis, {group.name: line(group, name) for group in groups})


def share(axis: Any, lines: dict[str, Line]) -> None:
  """Shares over rounds, such as accuracies by client, a line each."""
  style.panel(axis, xlabel='round', ylabel='accuracy of the mean network')
  style.accuracies(axis, [v for found in lines.values() for v in found.y.flat])
  _draw(axis, lines)


def bits(axis: Any, groups: list[Group], way: str = '') -> None:
  """Bits per parameter and client: of one group all directions, else of one.

  The first theta follows from the seed, so that its broadcast costs next to
  nothing.  It is no point of the line, and the axis says so.

  Args:
    axis: of Matplotlib.
    groups: at most `style.MAX_LINES`.
    way: 'uplink' or 'downlink'; empty for both, of one group.
  """
  lines, first = {}, []
  for group in groups:
    for i, each in enumerate([way] if way else WAYS):
      found = line(group, f'{each}/bpp_wire')
      colour = group.colour if way else style.COLOURS[i]
      if found.x.size > 1 and found.y[:, 0].max() < 0.1 * found.y[:, 1:].min():
        first.append(float(found.y[:, 0].mean()))
        found = found._replace(x=found.x[1:], y=found.y[:, 1:])
      is_positive = (found.y > 0).all(axis=0)
      lines[group.name if way else each] = Line(
        found.x[is_positive], found.y[:, is_positive], colour
      )
    if not way and 'uplink/bpp_entropy' in group.runs[0][-1]:
      estimate = line(group, 'uplink/bpp_entropy')
      lines["uplink, paper's estimate"] = estimate._replace(colour='#8a939c')
  note = ''
  if first:
    note = f'; the first downlink, {max(first):.1g}, is not drawn'
  what = f'{way}, bits' if way else 'bits'
  style.panel(axis, xlabel=f'round{note}', ylabel=f'{what} per parameter')
  _draw(axis, lines, y_axis='log')


def _draw(
  axis: Any,
  lines: dict[str, Line],
  *,
  x_axis: str = '',
  y_axis: str = '',
  is_round: bool = True,
) -> None:
  """The lines, each named where it ends, on linear or 'log' axes."""
  drawn = {}
  for name, found in lines.items():
    if found.x.size:
      dots = {'marker': '.', 'markersize': 5} if found.x.size <= 40 else {}
      drawn[name] = style.band(axis, found.x, found.y, found.colour, **dots)
  if not drawn:
    return
  if is_round:
    style.whole_numbers(axis.xaxis)
  for scale, one in ((x_axis, axis.xaxis), (y_axis, axis.yaxis)):
    if scale == 'log':
      style.logarithmic(one)
  if len(drawn) > 1:
    labels.at_lines(axis, drawn)
