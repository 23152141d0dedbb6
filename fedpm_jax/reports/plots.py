"""Pictures: curves of a run, the clients' labels, codecs compared."""

import contextlib
import io
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedpm_jax.reports import codec_costs, records
from fedpm_jax.system import files
from fedpm_jax.system.text import printable

_WAYS = ('uplink', 'downlink')
# Of characters; what is longer leaves no room for the picture.
MAX_NAME, MAX_TITLE = 40, 100
# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')
MARKERS = 'os^vDP'
# Without a date, so that the same picture is the same file.
_METADATA = {'.png': None, '.pdf': {'CreationDate': None}}
# They lie so close to the lines of single networks that nobody could read them.
_NOT_DRAWN = (
  'eval/accuracy_sampled_mean',
  'eval/accuracy_vote',
  'eval/accuracy_ensemble',
)


def figure(**options: Any) -> Any:
  """A Matplotlib figure of no backend: no window, and no setting is changed.

  Matplotlib is imported only where something is drawn, because that takes long.
  """
  from matplotlib.figure import Figure

  return Figure(layout='constrained', **options)


def colours(name: str) -> Any:
  """A colour map of Matplotlib."""
  import matplotlib

  return matplotlib.colormaps[name]


def warm_up() -> None:
  """Imports what drawing needs."""
  figure().savefig(io.BytesIO())


def accuracies(rows: list[dict[str, Any]]) -> list[str]:
  """The metrics `eval/accuracy_<kind>` that a run has, its last row says."""
  names = (name for name in rows[-1] if name.startswith('eval/accuracy_'))
  return [name for name in names if name != records.SPREAD]


def shown(name: str, *, most: int = MAX_NAME) -> str:
  r"""A name as text of a picture: it prints, it is short, and is no formula.

  For Matplotlib a formula is what stands between two $, but not between \$.
  """
  text = printable(name)
  if len(text) > most:
    text = f'{text[: most // 2]}...{text[3 - most // 2 :]}'
  return text.replace('$', r'\$')


def legend(of: Any, lines: dict[str, Any], **options: Any) -> None:
  """A legend of all lines of a figure or of axes, whatever their names.

  Matplotlib leaves out names that begin with an underscore, so that they are
  set afterwards.
  """
  made = of.legend(list(lines.values()), [''] * len(lines), **options)
  for text, name in zip(made.get_texts(), lines, strict=True):
    text.set_text(shown(name))


def name_ticks(axis: Any, names: list[str]) -> None:
  """Names below the points 0, 1, 2, ... of an axis."""
  axis.set_xticks(range(len(names)), [shown(name) for name in names])
  axis.tick_params(axis='x', rotation=60)


@contextlib.contextmanager
def any_script() -> Iterator[None]:
  """No warning of a name in a script that the font lacks: it has boxes."""
  with warnings.catch_warnings():
    for what in (r'Glyph \d+ .* missing from font', '.* natively'):
      warnings.filterwarnings('ignore', what, UserWarning)
    yield


def save_both(drawn: Any, stem: pathlib.Path) -> list[pathlib.Path]:
  """Writes a picture as PNG, for screens, and as PDF, for papers."""
  paths = [stem.with_name(stem.name + suffix) for suffix in _METADATA]
  for path in paths:
    save(drawn, path)
  return paths


def save(drawn: Any, path: pathlib.Path) -> None:
  """Writes a picture, a Matplotlib figure, whole or not at all.

  Args:
    drawn: the figure.
    path: .png or .pdf.
  """
  kind = path.suffix
  buffer = io.BytesIO()
  with any_script():
    drawn.savefig(buffer, format=kind[1:], dpi=120, metadata=_METADATA[kind])
  files.write_bytes(path, buffer.getvalue())


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
  drawn = figure(figsize=(13, 3.8))
  drawn.suptitle(shown(title, most=MAX_TITLE))
  rounds, sent, rate = drawn.subplots(1, 3)
  uplink = np.cumsum([row['uplink/bytes'] for row in rows]) / 1e6
  by_round, by_bytes = {}, {}
  for name in accuracies(rows):
    if name in _NOT_DRAWN:
      continue
    evaluated = [i for i, row in enumerate(rows) if name in row]
    kind = name.removeprefix('eval/accuracy_')
    y = [rows[i][name] for i in evaluated]
    x = [rows[i]['round_idx'] + 1 for i in evaluated]
    (by_round[kind],) = rounds.plot(x, y, marker='.')
    (by_bytes[kind],) = sent.plot(uplink[evaluated], y, marker='.')
  x = [row['round_idx'] + 1 for row in rows]
  for name, label in (
    ('uplink/bpp_wire', 'uplink, sent'),
    ('uplink/bpp_entropy', "uplink, the paper's estimate"),
    ('downlink/bpp_wire', 'downlink, sent'),
  ):
    if name in rows[-1]:  # the estimate exists for masks only
      rate.plot(x, [row.get(name) for row in rows], marker='.', label=label)
  rounds.set(xlabel='round', ylabel=f'{evaluated_on} accuracy')
  for axis in (rounds, rate):
    axis.xaxis.get_major_locator().set_params(integer=True)
  sent.set(xlabel='uplink so far, all clients, MB')
  sent.set(ylabel=f'{evaluated_on} accuracy')
  rate.set(xlabel='round', ylabel='bits per parameter', yscale='log')
  # The first theta follows from the seed and costs next to nothing.
  rates = [row[f'{way}/bpp_wire'] for row in rows[1:] for way in _WAYS]
  rate.set_ylim(bottom=0.7 * min((x for x in rates if x > 0), default=1e-3))
  rate.yaxis.set_major_formatter('{x:g}')
  rate.yaxis.set_minor_formatter('')
  for axis in (rounds, sent, rate):
    axis.grid(alpha=0.3)
  legend(rounds, by_round)
  legend(sent, by_bytes)
  rate.legend()
  save(drawn, path)


def partition(
  counts: np.ndarray, path: pathlib.Path, *, title: str = ''
) -> None:
  """The label distribution: a bar per client, a colour per class.

  Args:
    counts: `[M, classes]`.
    path: of the picture.
    title: above it.
  """
  clients, classes = counts.shape
  drawn = figure(figsize=(min(12, 4 + 0.2 * clients), 3.8))
  drawn.suptitle(shown(title, most=MAX_TITLE))
  axis = drawn.subplots()
  palette = colours('tab20' if classes <= 20 else 'turbo')
  base = np.zeros(clients)
  for label in range(classes):
    colour = palette(label if classes <= 20 else label / classes)
    axis.bar(
      np.arange(clients),
      counts[:, label],
      1,
      base,
      color=colour,
      label=str(label),
      edgecolor='white',
      linewidth=0.2,
    )
    base += counts[:, label]
  axis.set(xlabel='client', ylabel='training examples')
  axis.xaxis.get_major_locator().set_params(integer=True)
  axis.set_xlim(-0.5, clients - 0.5)
  if classes <= 20:
    axis.legend(title='class', ncols=2, bbox_to_anchor=(1, 1), loc='upper left')
  save(drawn, path)


def costs(
  rows: list[dict[str, Any]], path: pathlib.Path, *, title: str
) -> None:
  """Bits of every codec against rounds, and by tensor in the last of them.

  Args:
    rows: of `codec_costs.costs`, several rounds.
    path: of the picture.
    title: above it.
  """
  drawn = figure(figsize=(14, 4.4))
  drawn.suptitle(shown(title, most=MAX_TITLE))
  rounds, tensors = drawn.subplots(1, 2)
  for name in codec_costs.UPLINK + codec_costs.DOWNLINK:
    of_codec = [row for row in rows if row['codec'] == name]
    style = '-' if name in codec_costs.UPLINK else '--'
    label = f'{of_codec[0]["direction"]}, {name}'
    x = [row['round_idx'] + 1 for row in of_codec]
    y = [row['real'] for row in of_codec]
    rounds.plot(x, y, style, marker='.', label=label)
    if 'ideal' in of_codec[-1]:
      ideal = {
        key.removeprefix('ideal/'): value
        for key, value in of_codec[-1].items()
        if key.startswith('ideal/')
      }
      tensors.plot(list(ideal.values()), marker='.')
      name_ticks(tensors, list(ideal))
  rounds.set(xlabel='round', ylabel='bits per parameter, measured')
  last = rows[-1]['round_idx'] + 1
  tensors.set(ylabel=f'the same, ideal, by tensor, round {last}')
  for axis in (rounds, tensors):
    axis.set_yscale('log')
    axis.yaxis.set_major_formatter('{x:g}')
    axis.grid(alpha=0.3)
  rounds.xaxis.get_major_locator().set_params(integer=True)
  rounds.legend(fontsize='small', bbox_to_anchor=(1, 1), loc='upper left')
  save(drawn, path)
