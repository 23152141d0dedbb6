"""Pictures of a sweep: accuracy, bits and densities, method by method."""

import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedpm_jax.reports import comparison, plots, sweep_runs
from fedpm_jax.reports.sweep_runs import Group

_DASHES = ('-', '--', '-.', ':')
_MARKERS = 'os^vDPX*<>'


def draw(groups: list[Group], out: pathlib.Path) -> list[pathlib.Path]:
  """Draws the pictures of every data set: a row of panels, one per setting.

  A line is the mean over the seeds, the band behind it reaches from the least
  to the greatest.  A method looks alike in all pictures.

  Args:
    groups: of `sweep_runs.read`.
    out: where to write `<data>_<picture>.png`.

  Returns:
    The pictures.
  """
  groups = [group for group in groups if group.runs]
  styles = method_styles([group.labels['method'] for group in groups])
  paths = []
  stems = _stems([group.labels['data'] for group in groups])
  for data, stem in stems.items():
    of_data = [group for group in groups if group.labels['data'] == data]
    masks = [group for group in of_data if _densities(group)]
    for name, picture in _PICTURES.items():
      drawn = masks if picture is _DENSITY else of_data
      if drawn:
        paths.append(out / f'{stem}_{name}.png')
        _figure(drawn, picture, styles, paths[-1])
  return paths


def method_styles(methods: list[str]) -> dict[str, dict[str, Any]]:
  """A colour, dashes and a marker for every method, in their order."""
  colours = plots.colours('tab20').colors
  colours = colours[::2] + colours[1::2]  # the strong ones first
  styles = {}
  for i, method in enumerate(dict.fromkeys(methods)):
    turn = i // 10  # the same hue once more, paler
    styles[method] = {
      'color': colours[i % 20],
      'linestyle': _DASHES[(i + turn) % 4],
      'marker': _MARKERS[(i + 3 * turn) % 10],
    }
  return styles


def _stems(names: list[str]) -> dict[str, str]:
  """How files of each data set begin: its name, as far as a path allows."""
  stems: dict[str, str] = {}
  for name in dict.fromkeys(names):
    stem = plain = re.sub(r'[^A-Za-z0-9_.+-]', '_', name)[:80]
    while stem in stems.values():  # another name, which came to the same
      stem = f'{plain}_{len(stems)}'
    stems[name] = stem
  return stems


class _Picture(NamedTuple):
  """A kind of picture.

  Attributes:
    points: (group, all groups of the panel) -> x `[points]` and y `[seeds,
      points]` of the group's line.
    prepare: (axis, all groups of the panel) -> None.
    x_label: of every panel.
    y_label: of the first one.
  """

  points: Callable[[Group, list[Group]], tuple[Any, np.ndarray]]
  prepare: Callable[[Any, list[Group]], None]
  x_label: str
  y_label: str


def _figure(groups, picture, styles, path) -> None:
  """One picture: its panels, and the legend of all beside them."""
  settings = {}
  for group in groups:
    others = {
      k: v for k, v in group.labels.items() if k not in ('data', 'method')
    }
    title = ', '.join(f'{k} {v}' for k, v in others.items())
    settings.setdefault(title, []).append(group)
  figure = plots.figure(figsize=(2.4 + 4.6 * len(settings), 4.6))
  axes = figure.subplots(1, len(settings), sharey=True, squeeze=False)
  handles = {}
  for axis, (title, members) in zip(axes[0], settings.items(), strict=True):
    picture.prepare(axis, members)
    for group in members:
      method = group.labels['method']
      x, y = picture.points(group, members)
      handles[method] = _line(axis, x, y, styles[method])
    axis.set_title(plots.shown(title, most=plots.MAX_TITLE))
    axis.set_xlabel(picture.x_label)
    axis.grid(alpha=0.3)
  axes[0, 0].set_ylabel(picture.y_label)
  plots.legend(
    figure,
    {method: handles[method] for method in styles if method in handles},
    loc='outside right center',
    title=plots.shown(groups[0].labels['data']),
    handlelength=4,
    fontsize='small',
  )
  plots.save(figure, path)


def _whole_numbers(axis, _) -> None:
  axis.xaxis.get_major_locator().set_params(integer=True)


def _log_megabytes(axis, _) -> None:
  axis.set_xscale('log')
  axis.xaxis.set_major_formatter('{x:g}')


def _log_bits(axis, _) -> None:
  axis.set_yscale('log')
  axis.yaxis.set_major_formatter('{x:g}')
  axis.yaxis.set_minor_formatter('')
  _whole_numbers(axis, _)


def _tensor_names(axis, members) -> None:
  plots.name_ticks(axis, _tensors(members))


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


def _density(group, members) -> tuple[Any, np.ndarray]:
  names, own = _tensors(members), _tensors([group])
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


def _line(axis, x, y, style) -> Any:
  """The mean of `y [seeds, points]` and the band from least to greatest."""
  (line,) = axis.plot(
    x,
    y.mean(0),
    **style,
    linewidth=1.6,
    markersize=4,
    markevery=max(1, len(x) // 8),
  )
  axis.fill_between(
    x, y.min(0), y.max(0), color=style['color'], alpha=0.15, linewidth=0
  )
  return line


_ACCURACY = 'test accuracy, mean network'
_DENSITY = _Picture(
  _density, _tensor_names, '', 'share of ones in the final mask'
)
_PICTURES = {
  'accuracy_rounds': _Picture(
    _accuracy_rounds, _whole_numbers, 'round', _ACCURACY
  ),
  'accuracy_bytes': _Picture(
    _accuracy_bytes('uplink', 'downlink'),
    _log_megabytes,
    'sent so far, up and down, all clients, MB',
    _ACCURACY,
  ),
  'accuracy_uplink': _Picture(
    _accuracy_bytes('uplink'),
    _log_megabytes,
    'uplink so far, all clients, MB',
    _ACCURACY,
  ),
  'uplink_bpp': _Picture(
    _uplink_bpp, _log_bits, 'round', 'uplink, bits per parameter and client'
  ),
  'density': _DENSITY,
}
