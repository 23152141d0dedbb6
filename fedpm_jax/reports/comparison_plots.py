"""Pictures of a sweep: accuracy, bits and densities, method by method."""

import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from fedpm_jax.reports import comparison, labels, style, sweep_runs
from fedpm_jax.reports.sweep_runs import Group

# Of one data set in a picture: more panels than this nobody can read, and
# Matplotlib takes minutes and gigabytes for some hundred of them.
MAX_SETTINGS = 24


def draw(groups: list[Group], out: pathlib.Path) -> list[pathlib.Path]:
  """Draws the pictures of every data set, each as PNG and PDF.

  `points` has a point a method: its accuracy and what it sent.  The others are
  curves: a column of panels for every setting, a row for every few methods; a
  line is the mean over the seeds, the band behind it reaches from the least to
  the greatest.  A method has the same colour in all pictures.  Where a data set
  has more than MAX_SETTINGS settings, the first ones are drawn, and it is said.

  Args:
    groups: of `sweep_runs.read`.
    out: where to write `<data>_<picture>.png` and `.pdf`.

  Returns:
    The pictures.
  """
  groups = [group for group in groups if group.runs]
  families = in_rows([group.labels['method'] for group in groups])
  paths = []
  stems = _stems([group.labels['data'] for group in groups])
  for data, stem in stems.items():
    of_data = [group for group in groups if group.labels['data'] == data]
    of_data = _first_settings(of_data, data)
    masks = [group for group in of_data if _densities(group)]
    paths += style.save_both(_points(of_data, families), out / f'{stem}_points')
    for name, picture in _PICTURES.items():
      drawn = masks if picture is _DENSITY else of_data
      if drawn:
        figure = _curves(drawn, picture, families)
        paths += style.save_both(figure, out / f'{stem}_{name}')
  return paths


def in_rows(methods: list[str]) -> list[dict[str, Any]]:
  """The methods in their order, a few a row, each with its colour."""
  methods = list(dict.fromkeys(methods))
  rows = max(1, -(-len(methods) // style.MAX_LINES))
  return [
    dict(zip(part.tolist(), style.COLOURS, strict=False))
    for part in np.array_split(np.array(methods, object), rows)
  ]


def _stems(names: list[str]) -> dict[str, str]:
  """How files of each data set begin: its name, as far as a path allows."""
  stems: dict[str, str] = {}
  for name in dict.fromkeys(names):
    stem = plain = re.sub(r'[^A-Za-z0-9_.+-]', '_', name)[:80]
    while stem in stems.values():  # another name, which came to the same
      stem = f'{plain}_{len(stems)}'
    stems[name] = stem
  return stems


def _settings(groups: list[Group]) -> dict[str, list[Group]]:
  """Groups that differ by their method only, by what they have in common."""
  settings = {}
  for group in groups:
    others = {
      k: v for k, v in group.labels.items() if k not in ('data', 'method')
    }
    title = ', '.join(f'{k} {v}' for k, v in others.items())
    settings.setdefault(title, []).append(group)
  return settings


def _first_settings(groups: list[Group], data: str) -> list[Group]:
  """The groups of as many settings as a picture has room for."""
  settings = list(_settings(groups).values())
  if len(settings) > MAX_SETTINGS:
    logging.warning(
      'The pictures of %s show the first %d of %d settings; the tables have all.',
      style.shown(data),
      MAX_SETTINGS,
      len(settings),
    )
  drawn = [id(group) for part in settings[:MAX_SETTINGS] for group in part]
  return [group for group in groups if id(group) in drawn]


def _points(groups: list[Group], families: list[dict[str, Any]]) -> Any:
  """A panel a setting: each method's accuracy against all that it sent.

  The bars are the standard deviation over the seeds.
  """
  settings = _settings(groups)
  columns = min(3, len(settings))
  rows = -(-len(settings) // columns)
  figure = style.figure(figsize=(0.4 + 4.4 * columns, 0.4 + 3.8 * rows))
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for axis in axes[len(settings) :]:
    axis.remove()
  drawn = []
  for axis, (title, members) in zip(axes, settings.items(), strict=False):
    axis.set_title(style.shown(title, most=style.MAX_TITLE))
    found, ends = {}, []
    for group in members:
      method, row = group.labels['method'], comparison.row(group)
      x = row['megabytes_up'] + row['megabytes_down']
      y, error = (row[f'accuracy_mean_network{end}'] for end in ('', '_std'))
      place = next(i for i, family in enumerate(families) if method in family)
      axis.errorbar(
        x,
        y,
        error,
        color=families[place][method],
        marker=style.MARKERS[place % len(style.MARKERS)],
        capsize=2,
        linewidth=1,
      )
      found[method] = (x, y)
      ends += [y - (error or 0), y, min(1, y + (error or 0))]
    style.panel(axis, xlabel=f'sent, {_BOTH_WAYS}')
    axis.set_ylabel(_worded(_ACCURACY, groups))
    axis.margins(0.15)
    style.logarithmic(axis.xaxis)
    style.accuracies(axis, ends)
    drawn.append((axis, found))
  style.title(figure, groups[0].labels['data'], most=style.MAX_NAME)
  labels.at_points(figure, drawn)
  return figure


class _Picture(NamedTuple):
  """A kind of picture.

  Attributes:
    points: (group, all groups) -> x `[points]` and y `[seeds, points]`.
    finish: (axis, all groups, all y) -> None, when all is drawn.
    x_label: of every panel.
    y_label: of the first one; `{evaluated_on}` is 'test' or 'validation'.
    has_lines: whether points belong together; else they are dots.
  """

  points: Callable[[Group, list[Group]], tuple[Any, np.ndarray]]
  finish: Callable[[Any, list[Group], np.ndarray], None]
  x_label: str
  y_label: str
  has_lines: bool = True


def _curves(
  groups: list[Group], picture: _Picture, families: list[dict[str, Any]]
) -> Any:
  """Panels of curves, each labelled where it ends in the last panel."""
  settings = _settings(groups)
  present = {group.labels['method'] for group in groups}
  families = [family for family in families if present & {*family}]
  size = (1.6 + 3.6 * len(settings), 0.9 + 2.7 * len(families))
  figure = style.figure(figsize=size)
  axes = figure.subplots(
    len(families), len(settings), sharey=True, sharex='col', squeeze=False
  )
  lines, values = [], []
  for row, family in zip(axes, families, strict=True):
    drawn = {}
    for axis, members in zip(row, settings.values(), strict=True):
      drawn = _panel(style.panel(axis), members, groups, picture, family)
      values += [y.ravel() for _, y in drawn.values()]
    lines.append({method: line for method, (line, _) in drawn.items()})
    row[0].set_ylabel(_worded(picture.y_label, groups))
  for axis in axes.flat:
    picture.finish(axis, groups, np.concatenate(values))
  for row, of_row in zip(axes, lines, strict=True):
    if picture.has_lines:
      labels.at_lines(row[-1], of_row)
    elif of_row:
      place = {'bbox_to_anchor': (1, 1), 'loc': 'upper left'}
      style.legend(row[-1], of_row, fontsize='small', **place)
  for axis, title in zip(axes[0], settings, strict=True):
    axis.set_title(style.shown(title, most=style.MAX_TITLE))
  for axis in axes[-1]:
    axis.set_xlabel(picture.x_label)
  style.title(figure, groups[0].labels['data'], most=style.MAX_NAME)
  return figure


def _panel(
  axis: Any,
  members: list[Group],
  groups: list[Group],
  picture: _Picture,
  family: dict[str, Any],
) -> dict[str, tuple[Any, np.ndarray]]:
  """What is drawn of the family's methods, and its y."""
  drawn = {}
  for group in members:
    method = group.labels['method']
    if method in family:
      x, y = picture.points(group, groups)
      colour = family[method]
      if picture.has_lines:
        drawn[method] = style.band(axis, x, y, colour), y
      else:
        place = list(family).index(method)
        # Side by side, so that none hides another.
        at = np.array(x) + 0.12 * (place - (len(family) - 1) / 2)
        drawn[method] = _dots(axis, at, y, colour, style.MARKERS[place]), y
  return drawn


def _dots(axis: Any, x: Any, y: np.ndarray, colour: Any, marker: str) -> Any:
  """The means of `y [seeds, points]`, with a bar from least to greatest."""
  axis.vlines(x, y.min(0), y.max(0), color=colour, linewidth=1, alpha=0.6)
  (dots,) = axis.plot(x, y.mean(0), marker, color=colour, markersize=4)
  return dots


def _worded(label: str, groups: list[Group]) -> str:
  """The label with the set that the accuracies are of."""
  return label.format(evaluated_on=sweep_runs.evaluated_on(groups))


def _accuracies_by_round(axis, _, values) -> None:
  style.whole_numbers(axis.xaxis)
  style.accuracies(axis, values)


def _accuracies_by_megabytes(axis, _, values) -> None:
  style.logarithmic(axis.xaxis)
  style.accuracies(axis, values)


def _log_bits(axis, *_) -> None:
  style.whole_numbers(axis.xaxis)
  style.logarithmic(axis.yaxis)


def _tensor_names(axis, groups, _) -> None:
  style.name_ticks(axis, _tensors(groups))


def _accuracy_rounds(group, _) -> tuple[Any, np.ndarray]:
  x, y = _accuracies(group)
  return x + 1, y


def _accuracy_bytes(*ways: str) -> Callable[..., tuple[Any, np.ndarray]]:
  """Points against the bytes that were sent in these directions."""

  def points(group, _):
    rounds, y = _accuracies(group)
    sent = np.stack([comparison.sent(run, ways) for run in group.runs]) / 1e6
    return sent.mean(0)[rounds], y

  return points


def _uplink_bpp(group, _) -> tuple[Any, np.ndarray]:
  y = [[row['uplink/bpp_wire'] for row in run.rows] for run in group.runs]
  return np.arange(len(y[0])) + 1, np.array(y)


def _density(group, groups) -> tuple[Any, np.ndarray]:
  names, own = _tensors(groups), _tensors([group])
  y = [[density[name] for name in own] for density in _densities(group)]
  return [names.index(name) for name in own], np.array(y)


def _tensors(groups) -> list[str]:
  """The tensors that are in all masks of some of the groups."""
  found = {}
  for group in groups:
    first, *rest = _densities(group)
    found |= dict.fromkeys(
      name for name in first if all(name in density for density in rest)
    )
  return list(found)


def _densities(group) -> list[dict[str, float]]:
  """Shares of ones by tensor of the final masks; empty for dense models."""
  found = [r.summary['model'].get('density_per_tensor') for r in group.runs]
  return [density for density in found if density]


def _accuracies(group) -> tuple[np.ndarray, np.ndarray]:
  """Evaluated rounds, and accuracies `[seeds, evaluated rounds]`."""
  y = [sweep_runs.evaluated(run) for run in group.runs]
  return np.array([i for i, _ in y[0]]), np.array(
    [[v for _, v in e] for e in y]
  )


_ACCURACY = '{evaluated_on} accuracy, mean network'
_BOTH_WAYS = 'up and down, all clients, MB'
_DENSITY = _Picture(
  _density,
  _tensor_names,
  '',
  'share of ones in the final mask',
  has_lines=False,
)
_PICTURES = {
  'accuracy_rounds': _Picture(
    _accuracy_rounds, _accuracies_by_round, 'round', _ACCURACY
  ),
  'accuracy_bytes': _Picture(
    _accuracy_bytes('uplink', 'downlink'),
    _accuracies_by_megabytes,
    f'sent so far, {_BOTH_WAYS}',
    _ACCURACY,
  ),
  'accuracy_uplink': _Picture(
    _accuracy_bytes('uplink'),
    _accuracies_by_megabytes,
    'uplink so far, all clients, MB',
    _ACCURACY,
  ),
  'uplink_bpp': _Picture(
    _uplink_bpp, _log_bits, 'round', 'uplink, bits per parameter'
  ),
  'density': _DENSITY,
}
