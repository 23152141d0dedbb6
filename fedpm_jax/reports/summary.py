"""From the rows of a run to its summary, summary.json, and a table."""

import hashlib
import importlib.metadata
import math
import pathlib
import platform
from typing import Any

import numpy as np

from fedpm_jax import masks
from fedpm_jax.protocol import model_file
from fedpm_jax.reports import curves, records
from fedpm_jax.system import machine, reading
from fedpm_jax.system.text import printable
from fedpm_jax.system.version import __version__

_PACKAGES = ('jax', 'flax', 'optax', 'numpy', 'constriction')
# What tables, reports and pictures rely on; a summary may say more.
SHAPE: reading.Shape = {
  'last': records.ROW | {'eval/accuracy_mean': float},
  'best': {str: {'value': float, 'round_idx': range(2**32)}},
  'total': {
    'uplink/bytes': range(10**18),
    'downlink/bytes': range(10**18),
    'time/round_s': float,
  },
  'mean': {'uplink/bpp_wire': float, 'downlink/bpp_wire': float},
  'model': {
    'num_parameters': range(1, 10**15),
    'bytes': range(10**15),
    'bpp': float,
    'times_smaller_than_float32': float,
  },
  'config': dict,
  'versions': dict,
  'device': str,
}
_REMEDY = 'Start the run again: the file is written anew.'
_REBUILT = 'Start the run again: it is rebuilt.'


def summarise(
  rows: list[dict[str, Any]], config: dict[str, Any], model: model_file.Model
) -> dict[str, Any]:
  """What a run came to: last and best metrics, totals, config, versions.

  Args:
    rows: of metrics.jsonl; at least one, the last one evaluated.
    config: as in config.json.
    model: the exported one.

  Returns:
    The content of summary.json.  `best` is the best round by test accuracy,
    so it flatters; `last` is what a method is to be compared by.
  """
  best = {}
  for name in curves.networks(rows):
    evaluated = [row for row in rows if name in row]
    row = max(evaluated, key=lambda row, name=name: row[name])
    best[name] = {'value': row[name], 'round_idx': row['round_idx']}
  return {
    'evaluated_on': records.evaluated_on(config),
    'last': rows[-1],
    'best': best,
    'total': {
      name: sum(row[name] for row in rows)
      for name in ('uplink/bytes', 'downlink/bytes', 'time/round_s')
    },
    'mean': {
      name: float(np.mean([row[name] for row in rows]))
      for name in ('uplink/bpp_wire', 'downlink/bpp_wire')
    },
    'model': {
      'num_parameters': len(model.values),
      'bytes': model.num_bytes,
      'sha256': hashlib.sha256(model.data).hexdigest(),
      'bpp': model.bpp,
      'times_smaller_than_float32': model.ratio,
    }
    | _densities(model),
    'rows_crc32': records.checksum(rows),
    'config': config,
    'versions': {
      'fedpm_jax': __version__,
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in _PACKAGES},
    },
    'device': machine.devices(),
  }


def _densities(model: model_file.Model) -> dict[str, Any]:
  """The shares of ones of a mask, of the whole and of every tensor."""
  if model.mask is None:
    return {}
  tensors = masks.split(model.layout, model.mask)
  names = zip(model.layout.names, tensors, strict=True)
  return {
    'density': float(np.mean(model.mask)),
    'density_per_tensor': {name: float(np.mean(x)) for name, x in names},
  }


def read(path: pathlib.Path) -> dict[str, Any]:
  """The content of a summary.json, of the shape `SHAPE`.

  Raises:
    FileNotFoundError: there is no such file.
    FileError: it is damaged, or not what `summarise` makes.
  """
  summary = reading.read_json(path, SHAPE, remedy=_REMEDY)
  try:
    _check(summary)
  except ValueError as error:
    raise reading.FileError(path, str(error), _REMEDY) from error
  return summary


def check_whole(
  folder: pathlib.Path, rows: list[dict[str, Any]], summary: dict[str, Any]
) -> None:
  """Raises FileError unless all files are of the same state of the run.

  Args:
    folder: of the run; its config.json is read, if it is there.
    rows: of its metrics.jsonl.
    summary: of its summary.json.
  """
  path = folder / 'summary.json'
  timeless = lambda row: {
    name: value for name, value in row.items() if not name.startswith('time/')
  }
  is_same = rows and timeless(rows[-1]) == timeless(summary['last'])
  for name in ('uplink/bytes', 'downlink/bytes'):
    total = sum(row[name] for row in rows)
    is_same = is_same and total == summary['total'][name]
  # Summaries of 0.2.0 and older have no checksum.
  found = records.checksum(rows)
  if not is_same or summary.get('rows_crc32', found) != found:
    problem = 'it is of another state of the run than metrics.jsonl'
    raise reading.FileError(path, problem, _REBUILT)
  try:
    config = reading.read_json(folder / 'config.json', dict, remedy=_REBUILT)
  except FileNotFoundError:
    return
  if config != summary['config']:
    problem = 'its config is not that of config.json'
    raise reading.FileError(path, problem, _REBUILT)


def _check(summary: dict[str, Any]) -> None:
  """Raises ValueError for what a shape cannot say."""
  records.check_row(summary['last'], 'last')
  for name in summary['best']:
    if summary['last'].get(name) is None:
      raise ValueError(f'best has {name[:60]!r}, which last has not')
  model = summary['model']
  bpp = 8 * model['bytes'] / model['num_parameters']
  if not math.isclose(model['bpp'], bpp):
    raise ValueError(
      f'model.bpp must be 8 * bytes / num_parameters = {bpp:g}, got'
      f' {model["bpp"]:g}'
    )
  shares = model.get('density_per_tensor', {})
  reading.check(shares, {str: float}, 'model.density_per_tensor')


def table(summary: dict[str, Any]) -> str:
  """A summary as a short text table."""
  last, best, model = summary['last'], summary['best'], summary['model']
  total = summary['total']
  on = records.evaluated_on(summary['config'])
  title = '' if on == 'test' else f'{on} set'
  lines = ['', f'{title:24}{"last":>8}{"best":>8}   (in round)']
  for name in best:
    kind = printable(name.removeprefix('eval/accuracy_'))
    line = (
      f'accuracy, {kind:14}{last[name]:8.4f}{best[name]["value"]:8.4f}'
      f'   ({best[name]["round_idx"] + 1})'
    )
    if kind == 'sampled_mean' and records.SPREAD in last:
      line += f'   standard deviation {last[records.SPREAD]:.4f}'
    lines.append(line)
  for name, text in (
    ('eval/client_accuracy_mean', 'clients, mean'),
    ('eval/client_accuracy_worst_tenth', 'clients, worst tenth'),
  ):
    if name in last:
      lines.append(f'{text:24}{last[name]:8.4f}')
  lines.append(f'{"":24}{"last":>8}{"mean":>8}   total')
  for way in ('uplink', 'downlink'):
    name = f'{way}/bpp_wire'
    lines.append(
      f'{way + ", bpp":24}{last[name]:8.4f}{summary["mean"][name]:8.4f}'
      f'   {total[f"{way}/bytes"] / 1e6:.2f} MB'
    )
  lines += [
    f'{"model, bpp":24}{model["bpp"]:8.4f}{"":8}   {model["bytes"]:,} bytes'
    f' for {model["num_parameters"]:,} parameters,'
    f' {model["times_smaller_than_float32"]:.1f} times smaller than float32',
    '(bpp: bits per parameter and client, as sent, everything included)',
  ]
  if on == 'validation':
    lines.append(
      '(accuracies of examples held out of the training set, which are no test'
      ' accuracies: the test set was not used)'
    )
  return '\n'.join(lines)


def file_list(workdir: pathlib.Path) -> str:
  """The files that a run left, with what they are."""
  names = {
    'metrics.jsonl': 'a row a round',
    'summary.json': 'last and best metrics, config, versions',
    'config.json': 'the configuration',
    'starts.jsonl': 'when, where and how it was started',
    'model.fedpm': 'the model: fedpm_jax.load(path)',
    'curves.png': 'accuracy and bits',
    'partition.png': "the clients' labels",
    'history.json': 'labels, theta and bits by layer, for the report',
    'symbols': 'the masks of some rounds, for report --bits',
    'checkpoints': 'to continue from',
  }
  there = [name for name in names if (workdir / name).exists()]
  lines = [f'  {name:15} {names[name]}' for name in there]
  return '\n'.join(['', f'In {printable(str(workdir))}:', *lines])
