"""The pictures that a run leaves: curves, the clients' labels, codecs compared."""

import pathlib
from typing import Any

import numpy as np

from fedpm_jax.reports import codec_costs, label_counts, labels, style
from fedpm_jax.reports import curves as panels


def warm_up() -> None:
  """Imports what drawing needs."""
  style.rendered(style.figure(), 'png')


def curves(
  rows: list[dict[str, Any]],
  path: pathlib.Path,
  *,
  title: str = '',
  evaluated_on: str = 'test',
) -> None:
  """Accuracy against rounds, against bytes sent, and bits against rounds.

  Args:
    rows: of metrics.jsonl.
    path: of the picture.
    title: above it.
    evaluated_on: which set the accuracies are of, 'test' or 'validation'.
  """
  drawn = style.figure(figsize=(14, 3.9))
  style.title(drawn, title)
  rounds, sent, rate = drawn.subplots(1, 3)
  groups = [panels.Group('', [rows])]
  panels.accuracy(rounds, groups, on=evaluated_on)
  panels.accuracy(sent, groups, on=evaluated_on, by_bytes=True)
  panels.bits(rate, groups)
  style.save(drawn, path)


def partition(
  counts: np.ndarray, path: pathlib.Path, *, title: str = ''
) -> None:
  """The label distribution; see `label_counts.panels`.

  Args:
    counts: `[M, classes]`.
    path: of the picture.
    title: above it.
  """
  style.save(label_counts.draw(counts, title), path)


def costs(
  rows: list[dict[str, Any]], path: pathlib.Path, *, title: str
) -> None:
  """Bits of every codec against rounds, and by tensor in the last of them.

  Args:
    rows: of `codec_costs.costs`, several rounds.
    path: of the picture.
    title: above it.
  """
  drawn = style.figure(figsize=(15, 4.6))
  style.title(drawn, title)
  up, down, tensors = drawn.subplots(1, 3, width_ratios=[1, 1, 1.4])
  for axis, way, names in (
    (up, 'uplink', codec_costs.UPLINK),
    (down, 'downlink', codec_costs.DOWNLINK),
  ):
    lines = {}
    for name, colour in zip(names, style.COLOURS, strict=False):
      of_codec = [row for row in rows if row['codec'] == name]
      x = [row['round_idx'] + 1 for row in of_codec]
      y = np.array([[row['real'] for row in of_codec]])
      lines[name] = style.band(axis, x, y, colour, marker='.')
    style.panel(axis, xlabel='round', ylabel=f'{way}, bits per parameter, sent')
    style.whole_numbers(axis.xaxis)
    style.logarithmic(axis.yaxis)
    labels.at_lines(axis, lines)
  last = rows[-1]['round_idx']
  _ideals(tensors, [row for row in rows if row['round_idx'] == last])
  style.save(drawn, path)


def _ideals(axis: Any, rows: list[dict[str, Any]]) -> None:
  """The ideal bits of each codec that has some, tensor by tensor: dots."""
  dots = {}
  rows = [row for row in rows if 'ideal' in row]
  for row in rows:
    ideal = {
      key.removeprefix('ideal/'): value
      for key, value in row.items()
      if key.startswith('ideal/')
    }
    place = len(dots)
    # Side by side, so that none hides another.
    shift = 0.12 * (place - (len(rows) - 1) / 2)
    (dots[row['codec']],) = axis.plot(
      np.arange(len(ideal)) + shift,
      list(ideal.values()),
      style.MARKERS[place % len(style.MARKERS)],
      color=style.COLOURS[place % len(style.COLOURS)],
      markersize=4,
    )
    style.name_ticks(axis, list(ideal))
  style.panel(axis)
  if dots:
    round_ = rows[-1]['round_idx'] + 1
    axis.set_ylabel(f'uplink, ideal bits per parameter, round {round_}')
    style.logarithmic(axis.yaxis)
    style.legend(axis, dots, bbox_to_anchor=(1, 1), loc='upper left')
