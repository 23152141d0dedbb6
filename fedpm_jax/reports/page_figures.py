"""The pictures of the page of runs, small ones that a narrow window has room for.

Dimensions: L tensors.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fedpm_jax.reports import curves, history, label_counts, records, style
from fedpm_jax.reports.run_files import Group

_SIZE = (5.0, 3.1)
_SMALL = (2.7, 2.3)
_MOST_ROUNDS = 6  # of theta, in a panel
_MOST_LAYERS = 24
_MEAN, _WORST = 'eval/client_accuracy_mean', 'eval/client_accuracy_worst_tenth'


class Picture(NamedTuple):
  """A picture of the page.

  Attributes:
    caption: what it shows.
    figure: of Matplotlib.
  """

  caption: str
  figure: Any


def _picture(
  caption: str,
  draw: Callable[..., object],
  *args: Any,
  size: tuple[float, float] = _SIZE,
  **options: Any,
) -> Picture:
  """What `draw(axis, *args, **options)` draws."""
  figure = style.figure(figsize=size)
  draw(figure.subplots(), *args, **options)
  return Picture(caption, figure)


def _few(groups: list[Group]) -> list[list[Group]]:
  """The groups, as many at a time as a panel has room for."""
  most = style.MAX_LINES
  return [groups[i : i + most] for i in range(0, len(groups), most)]


def on(groups: list[Group]) -> str:
  """Which set the accuracies are of."""
  found = {records.evaluated_on(r.config) for g in groups for r in g.runs}
  return ' or '.join(sorted(found))


def of_curves(groups: list[Group]) -> list[Picture]:
  """Accuracy by round and by bytes, loss, density; at most six groups a panel."""
  drawn, where = [], on(groups)
  for few in _few(groups):
    lines = [group.lines for group in few]
    drawn += [
      _picture('Accuracy by round', curves.accuracy, lines, on=where),
      _picture(
        'Accuracy by all that was sent',
        curves.accuracy,
        lines,
        on=where,
        by_bytes=True,
      ),
    ]
    for caption, metric, label in (
      ('Training loss', 'train/loss', 'cross-entropy, nats'),
      ('Density of the masks that were sent', 'mask/density', 'share of ones'),
    ):
      those = [line for line in lines if _has(line, metric)]
      if those:
        drawn.append(_picture(caption, curves.metric, those, metric, label))
  return drawn


def of_directions(groups: list[Group]) -> list[Picture]:
  """Bits by direction: of one group in one panel."""
  if len(groups) == 1:
    lines = [groups[0].lines]
    return [_picture('Bits by direction, as sent', curves.bits, lines)]
  return [
    _picture(
      f'Bits of the {way}, as sent', curves.bits, [g.lines for g in few], way
    )
    for few in _few(groups)
    for way in curves.WAYS
  ]


def _has(line: curves.Group, metric: str) -> bool:
  return any(row.get(metric) is not None for row in line.runs[0])


def of_clients_accuracy(groups: list[Group]) -> list[Picture]:
  """The mean network by each client's labels: mean and worst tenth."""
  metrics = {_MEAN: 'mean', _WORST: 'worst tenth'}
  drawn = []
  for few in _few([g for g in groups if _has(g.lines, _MEAN)]):
    of = {
      (group.name, name): curves.line(group.lines, metric)
      for group in few
      for metric, name in metrics.items()
    }
    if len(groups) == 1:
      lines = {
        name: line._replace(colour=colour)
        for ((_, name), line), colour in zip(
          of.items(), style.COLOURS, strict=False
        )
      }
      drawn.append(_picture('Accuracy by client', curves.share, lines))
      continue
    for name in metrics.values():
      lines = {
        group: line for (group, which), line in of.items() if which == name
      }
      drawn.append(_picture(f'Accuracy by client, {name}', curves.share, lines))
  return drawn


def of_labels(found: dict[str, Any]) -> list[Picture]:
  """Which labels the clients have; see `label_counts`."""
  return [
    _picture(caption[0].upper() + caption[1:], draw)
    for caption, draw in label_counts.panels(found)
  ]


def of_tensors(bits: dict[str, Any]) -> list[Picture]:
  """Ideal bits of each tensor, a dot a direction; none where none are known."""
  ways = {way: bits[way] for way in curves.WAYS if bits[way] is not None}
  if not ways:
    return []
  count = len(bits['tensors'])
  size = (_SIZE[0], max(2.2, 0.9 + 0.2 * count))
  return [
    _picture(
      f'Ideal bits by tensor, round {bits["rounds_done"]}',
      _dots,
      ways,
      bits,
      size=size,
    )
  ]


def _dots(
  axis: Any, ways: dict[str, list[float]], bits: dict[str, Any]
) -> None:
  """A row a tensor, the first one on top."""
  dots, places = {}, np.arange(len(bits['tensors']))
  for i, (way, values) in enumerate(ways.items()):
    x = np.array(values) / np.array(bits['sizes'])
    (dots[way],) = axis.plot(
      np.where(x > 0, x, np.nan),
      places,
      style.MARKERS[i],
      color=style.COLOURS[curves.WAYS.index(way)],
      markersize=5,
    )
  style.panel(axis, xlabel='bits per parameter of the tensor, ideal')
  axis.set_yticks(places, [style.shown(name) for name in bits['tensors']])
  axis.set_ylim(len(places) - 0.4, -0.6)
  if any(np.isfinite(line.get_xdata()).any() for line in dots.values()):
    style.logarithmic(axis.xaxis)
  axis.figure.legend(
    list(dots.values()),
    list(dots),
    loc='outside upper center',
    ncols=2,
    frameon=False,
  )


def of_theta(entries: list[dict[str, Any]]) -> Iterator[Picture]:
  """How theta is spread: a panel a layer, a histogram for some of the rounds."""
  count = min(_MOST_ROUNDS, len(entries))
  at = np.linspace(0, len(entries) - 1, count).round().astype(int)
  for layer in [*entries[0]['layers']][:_MOST_LAYERS]:
    size = sum(entries[0]['layers'][layer])
    yield _picture(
      f'{layer}, {size:,} parameters',
      _histograms,
      [entries[i] for i in at],
      layer,
      size=_SMALL,
    )


def layers_left_out(entries: list[dict[str, Any]]) -> int:
  """How many layers `of_theta` has no panel of."""
  return max(0, len(entries[0]['layers']) - _MOST_LAYERS)


def _histograms(axis: Any, entries: list[dict[str, Any]], layer: str) -> None:
  """A row a round, the first one on top, all on one scale."""
  edges = np.linspace(0, 1, history.BINS + 1)
  palette, last = style.colours('viridis_r'), max(1, len(entries) - 1)
  counts = np.array([entry['layers'][layer] for entry in entries])
  heights = 0.92 * counts / counts.max()
  style.panel(axis, xlabel='theta', ylabel='after round')
  for place, height in enumerate(heights):
    base = len(entries) - 1 - place
    colour = palette(0.2 + 0.7 * place / last)
    axis.stairs(height + base, edges, baseline=base, fill=True, color=colour)
    axis.axhline(base, color=colour, linewidth=0.6)
  names = [str(entry['rounds_done']) for entry in entries]
  axis.set_yticks(range(len(names)), names[::-1])
  axis.grid(visible=False, axis='y')
  axis.set(xlim=(0, 1), ylim=(-0.05, len(entries)), xticks=[0, 0.5, 1])


def overlay(groups: list[Group]) -> Any:
  """Several runs in one picture, for a paper; a row of panels for every six."""
  chunks = _few(groups)
  figure = style.figure(figsize=(17, 0.6 + 3.6 * len(chunks)))
  rows = figure.subplots(len(chunks), 4, squeeze=False)
  for row, few in zip(rows, chunks, strict=True):
    lines = [group.lines for group in few]
    curves.accuracy(row[0], lines, on=on(groups))
    curves.accuracy(row[1], lines, on=on(groups), by_bytes=True)
    if len(groups) == 1:
      curves.bits(row[2], lines)
      curves.metric(row[3], lines, 'train/loss', 'training loss, nats')
    else:
      for axis, way in zip(row[2:], curves.WAYS, strict=True):
        curves.bits(axis, lines, way)
  return figure
