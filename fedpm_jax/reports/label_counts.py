"""Which labels the clients have: a digest that stays small, and its picture.

Of few clients all counts are kept, of many what is known of them as a whole.

Dimensions: M clients, C classes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedpm_jax.reports import style
from fedpm_jax.system import reading

MOST_BARS = 60  # clients that can be told apart, side by side
_MOST_COLOURS = 20  # classes that can be
_BINS = 20
_COUNT = range(10**15)
SHAPE: reading.Shape = {
  'clients': range(1, 2**32),
  'of_class': [_COUNT],
  'counts': ([[_COUNT]], type(None)),
  'examples': {'edges': [float], 'clients': [_COUNT]},
  'classes': [_COUNT],
  'largest_share': [_COUNT],
}


def digest(counts: np.ndarray) -> dict[str, Any]:
  """What is kept of the labels, as JSON of the shape `SHAPE`.

  Args:
    counts: integers `[M, C]`, training examples of each client.

  Returns:
    `counts` as they are, or null where there are more than `MOST_BARS` clients;
    and how many clients have so many examples, so many classes, and such a share
    of their commonest class (20 bins of [0, 1]).
  """
  examples = counts.sum(axis=1)
  low, high = int(examples.min()), int(examples.max())
  # Whole numbers: each bin has as many of them as any other.
  width = max(1, -(-(high + 1 - low) // _BINS))
  edges = np.arange(low, high + 1 + width, width)
  share = counts.max(axis=1) / np.maximum(examples, 1)
  return {
    'clients': len(counts),
    'of_class': counts.sum(axis=0).tolist(),
    'counts': counts.tolist() if len(counts) <= MOST_BARS else None,
    'examples': {
      'edges': edges.tolist(),
      'clients': np.histogram(examples, edges)[0].tolist(),
    },
    'classes': np.bincount(
      (counts > 0).sum(axis=1), minlength=counts.shape[1] + 1
    ).tolist(),
    'largest_share': np.histogram(share, _BINS, (0, 1))[0].tolist(),
  }


def check(found: dict[str, Any]) -> None:
  """Raises ValueError for a digest of `SHAPE` that contradicts itself."""
  clients, classes = found['clients'], len(found['of_class'])
  counts, examples = found['counts'], found['examples']
  if (counts is None) != (clients > MOST_BARS):
    raise ValueError(f'labels.counts must be there for {clients} clients only')
  if counts is not None and (
    len(counts) != clients
    or any(len(row) != classes for row in counts)
    or [sum(column) for column in zip(*counts, strict=True)]
    != found['of_class']
  ):
    raise ValueError(
      f'labels.counts must be those of {clients} clients and {classes} classes,'
      ' and add up to labels.of_class'
    )
  edges = examples['edges']
  if len(edges) != len(examples['clients']) + 1 or edges != sorted({*edges}):
    raise ValueError('labels.examples.edges must be one more, and ascending')
  for name, histogram, length in (
    ('examples.clients', examples['clients'], len(examples['clients'])),
    ('classes', found['classes'], classes + 1),
    ('largest_share', found['largest_share'], _BINS),
  ):
    if len(histogram) != length or sum(histogram) != clients:
      raise ValueError(
        f'labels.{name} must be {length} numbers that add up to {clients}'
        f' clients, got {len(histogram)} and {sum(histogram)}'
      )


def panels(found: dict[str, Any]) -> list[tuple[str, Callable[[Any], None]]]:
  """The panels of a digest: what each shows, and what draws it on axes."""
  if found['counts'] is None:
    return [
      ('examples of a client', lambda axis: _examples(axis, found)),
      ('classes of a client', lambda axis: _classes(axis, found)),
      ('share of its commonest class', lambda axis: _shares(axis, found)),
    ]
  counts = np.array(found['counts'])
  if counts.shape[1] <= _MOST_COLOURS:
    return [('labels of each client', lambda axis: _bars(axis, counts))]
  return [('labels of each client', lambda axis: _map(axis, counts))]


def draw(counts: np.ndarray, title: str) -> Any:
  """The picture of a run's clients.

  Args:
    counts: integers `[M, C]`.
    title: above it.
  """
  found = panels(digest(counts))
  width = 8 if len(found) == 1 else 4 * len(found)
  drawn = style.figure(figsize=(width, 3.8))
  style.title(drawn, title)
  axes = drawn.subplots(1, len(found), squeeze=False)[0]
  for axis, (_, on) in zip(axes, found, strict=True):
    on(axis)
  return drawn


def _bars(axis: Any, counts: np.ndarray) -> None:
  """A bar a client, a colour a class."""
  clients, classes = counts.shape
  palette = style.colours('tab10' if classes <= 10 else 'tab20')
  base, bars = np.zeros(clients), {}
  for label in range(classes):
    bars[str(label)] = axis.bar(
      np.arange(clients),
      counts[:, label],
      0.92,
      base,
      color=palette(label),
      linewidth=0,
    )
    base += counts[:, label]
  style.panel(axis, xlabel='client', ylabel='training examples')
  axis.grid(visible=False, axis='x')
  style.whole_numbers(axis.xaxis)
  axis.set_xlim(-0.6, clients - 0.4)
  # From the top down, as the colours lie.
  style.legend(
    axis,
    dict(reversed(bars.items())),
    title='class',
    ncols=1 + (classes > 10),
    bbox_to_anchor=(1, 1.05),
    loc='upper left',
    fontsize='small',
    labelspacing=0.35,
    handlelength=1,
  )


def _map(axis: Any, counts: np.ndarray) -> None:
  """A row a client, a column a class, the darker the more examples."""
  image = axis.imshow(
    np.ma.masked_equal(counts, 0),
    aspect='auto',
    cmap=style.colours('viridis_r'),
    vmin=0,
    interpolation='nearest',
  )
  style.panel(axis, xlabel='class', ylabel='client')
  axis.grid(visible=False)
  for one in (axis.xaxis, axis.yaxis):
    style.whole_numbers(one)
  bar = axis.figure.colorbar(image, ax=axis, label='training examples')
  bar.outline.set_visible(False)
  bar.ax.set_ylim(0, max(1, counts.max()))


def _histogram(axis: Any, edges: Any, clients: Any, label: str) -> None:
  axis.stairs(clients, edges, fill=True, color=style.COLOURS[4])
  axis.stairs(clients, edges, color=style.COLOURS[0], linewidth=1)
  style.panel(axis, xlabel=label, ylabel='clients')
  axis.grid(visible=False, axis='x')
  style.whole_numbers(axis.yaxis)


def _examples(axis: Any, found: dict[str, Any]) -> None:
  examples = found['examples']
  edges = np.array(examples['edges']) - 0.5
  _histogram(axis, edges, examples['clients'], 'training examples of a client')
  margin = max(1, 0.04 * (edges[-1] - edges[0]))
  axis.set_xlim(edges[0] - margin, edges[-1] + margin)
  style.whole_numbers(axis.xaxis)


def _classes(axis: Any, found: dict[str, Any]) -> None:
  clients = found['classes']
  edges = np.arange(len(clients) + 1) - 0.5
  text = f'classes of a client, of {len(found["of_class"])}'
  _histogram(axis, edges, clients, text)
  held = np.flatnonzero(clients)
  axis.set_xlim(held[0] - 1.5, held[-1] + 1.5)
  style.whole_numbers(axis.xaxis)


def _shares(axis: Any, found: dict[str, Any]) -> None:
  edges = np.linspace(0, 1, _BINS + 1)
  text = 'share of the commonest class of a client'
  _histogram(axis, edges, found['largest_share'], text)
  axis.set_xlim(0, 1)
