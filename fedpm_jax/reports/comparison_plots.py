"""Pictures of a sweep: accuracy, bits and densities, method by method."""

import pathlib
from typing import Any

import numpy as np

from fedpm_jax.reports import comparison, plots

_DASHES = ('-', '--', '-.', ':')
_MARKERS = 'os^vDPX*<>'


def draw(
  groups: list[comparison.Group], out: pathlib.Path
) -> list[pathlib.Path]:
  """Draws the pictures of every data set: a row of panels, one per setting.

  A line is the mean over the seeds, the band behind it reaches from the least
  to the greatest.  A method looks alike in all pictures.

  Args:
    groups: of `comparison.read`.
    out: where to write `<data>_<picture>.png`.

  Returns:
    The pictures.
  """
  groups = [group for group in groups if group.runs]
  styles = method_styles([group.labels['method'] for group in groups])
  paths = []
  for data in dict.fromkeys(group.labels['data'] for group in groups):
    of_data = [group for group in groups if group.labels['data'] == data]
    masks = [group for group in of_data if _densities(group)]
    for name, picture in _PICTURES.items():
      drawn = masks if name == 'density' else of_data
      if drawn:
        paths.append(out / f'{data}_{name}.png')
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


def _figure(groups, picture, styles, path) -> None:
  """One picture: its panels, and the legend of all beside them."""
  panel, x_label, y_label = picture
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
    for group in members:
      method = group.labels['method']
      handles[method] = panel(axis, group, styles[method])
    axis.set_title(title, parse_math=False)
    axis.set_xlabel(x_label)
    axis.grid(alpha=0.3)
  axes[0, 0].set_ylabel(y_label)
  ordered = [method for method in styles if method in handles]
  figure.legend(
    [handles[method] for method in ordered],
    ordered,
    loc='outside right center',
    title=groups[0].labels['data'],
    handlelength=4,
    fontsize='small',
  )
  plots.save(figure, path)


def _accuracy_rounds(axis, group, style) -> Any:
  x, y = _accuracies(group)
  axis.xaxis.get_major_locator().set_params(integer=True)
  return _line(axis, x + 1, y, style)


def _accuracy_bytes(axis, group, style) -> Any:
  return _against_bytes(axis, group, style, ('uplink', 'downlink'))


def _accuracy_uplink(axis, group, style) -> Any:
  return _against_bytes(axis, group, style, ('uplink',))


def _against_bytes(axis, group, style, ways) -> Any:
  evaluated, y = _accuracies(group)
  megabytes = np.stack([comparison.sent(run, ways) for run in group.runs]) / 1e6
  axis.set_xscale('log')
  axis.xaxis.set_major_formatter('{x:g}')
  return _line(axis, megabytes.mean(0)[evaluated], y, style)


def _uplink_bpp(axis, group, style) -> Any:
  y = [[row['uplink/bpp_wire'] for row in run.rows] for run in group.runs]
  axis.set_yscale('log')
  axis.yaxis.set_major_formatter('{x:g}')
  axis.yaxis.set_minor_formatter('')
  axis.xaxis.get_major_locator().set_params(integer=True)
  return _line(axis, np.arange(len(y[0])) + 1, np.array(y), style)


def _density(axis, group, style) -> Any:
  densities = _densities(group)
  y = np.array([list(density.values()) for density in densities])
  axis.tick_params(axis='x', rotation=60)
  return _line(axis, list(densities[0]), y, style)


def _densities(group) -> list[dict[str, float]]:
  """Shares of ones by tensor of the final masks; empty for dense models."""
  found = [r.summary['model'].get('density_per_tensor') for r in group.runs]
  return [density for density in found if density]


def _accuracies(group) -> tuple[np.ndarray, np.ndarray]:
  """Evaluated rounds, and accuracies `[seeds, evaluated rounds]`."""
  y = [comparison.evaluated(run) for run in group.runs]
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
_PICTURES = {  # a function of panel, group and style; the axes' labels
  'accuracy_rounds': (_accuracy_rounds, 'round', _ACCURACY),
  'accuracy_bytes': (
    _accuracy_bytes,
    'sent so far, up and down, all clients, MB',
    _ACCURACY,
  ),
  'accuracy_uplink': (
    _accuracy_uplink,
    'uplink so far, all clients, MB',
    _ACCURACY,
  ),
  'uplink_bpp': (
    _uplink_bpp,
    'round',
    'uplink, bits per parameter and client',
  ),
  'density': (_density, '', 'share of ones in the final mask'),
}
