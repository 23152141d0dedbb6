"""Tables of runs: of those that are compared, and of all below a folder."""

import datetime
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fedpm_jax.reports import records, run_files
from fedpm_jax.reports.run_files import Group, Run
from fedpm_jax.system import reading
from fedpm_jax.system.text import printable

HEADER = (
  'run',
  'seed',
  'rounds',
  'accuracy, mean network',
  'one sampled mask',
  'bits up',
  'bits down',
  'MB up',
  'MB down',
  'model kB',
)
NOTE = (
  'Accuracies after the last evaluated round, bits per parameter and client over'
  ' all rounds, as sent; mean +- standard deviation over the seeds (n - 1).'
)
_LIST = (
  'folder',
  'rounds',
  'mean',
  'sampled',
  'bits up',
  'bits down',
  'state',
  'last row',
)


def cells(groups: list[Group]) -> list[tuple[str, ...]]:
  """A row for each group, under `HEADER`; names as they are."""
  return [
    (
      group.name,
      ', '.join(str(run.config.get('seed', '?')) for run in group.runs),
      _rounds(group.runs),
      _spread(group, lambda run: last(run.rows, records.ACCURACY), '.4f'),
      _spread(group, lambda run: last(run.rows, _SAMPLED), '.4f'),
      _spread(group, lambda run: _mean(run, 'uplink/bpp_wire'), '.4f'),
      _spread(group, lambda run: _mean(run, 'downlink/bpp_wire'), '.4f'),
      _spread(group, lambda run: _megabytes(run, 'uplink'), '.2f'),
      _spread(group, lambda run: _megabytes(run, 'downlink'), '.2f'),
      _spread(group, _model, '.1f'),
    )
    for group in groups
  ]


_SAMPLED = 'eval/accuracy_sampled'


def last(rows: list[dict[str, Any]], metric: str) -> float | None:
  """The newest value of a metric, None where there is none."""
  found = [row[metric] for row in rows if row.get(metric) is not None]
  return found[-1] if found else None


def _rounds(runs: list[Run]) -> str:
  done = sorted({len(run.rows) for run in runs})
  text = '-'.join(str(count) for count in (done[0], done[-1])[: len(done)])
  of = runs[0].num_rounds
  return text if done == [of] or of is None else f'{text} of {of}'


def _mean(run: Run, metric: str) -> float:
  return float(np.mean([row[metric] for row in run.rows]))


def _megabytes(run: Run, way: str) -> float:
  return sum(row[f'{way}/bytes'] for row in run.rows) / 1e6


def _model(run: Run) -> float | None:
  return run.summary['model']['bytes'] / 1e3 if run.summary else None


def _spread(
  group: Group, value: Callable[[Run], float | None], form: str
) -> str:
  """Mean and standard deviation; empty where a run has no value."""
  values = [value(run) for run in group.runs]
  there = [x for x in values if x is not None]
  if len(there) < len(values):
    return ''
  text = f'{np.mean(there):{form}}'
  if len(there) > 1:
    text += f' +- {np.std(there, ddof=1):{form}}'
  return text


def text(groups: list[Group]) -> str:
  """The table for a terminal."""
  return f'{aligned(HEADER, cells(groups))}\n\n{NOTE}'


def listing(top: pathlib.Path) -> str:
  """A line for each run at or below a folder.

  Raises:
    ValueError: there is no such folder, or no run in it.
  """
  if not top.is_dir():
    raise ValueError(
      f'There is no folder {str(top)!r}: expected one with runs, such as'
      ' --list=runs.'
    )
  rows, problems = [], []
  for folder in run_files.folders(top):
    try:
      rows.append(_line(folder, top))
    except (reading.FileError, ValueError, OSError) as error:
      shown = folder.relative_to(top).as_posix()
      rows.append((shown, '', '', '', '', '', 'damaged', _when(folder)))
      problems.append(printable(str(error)))
  if not rows:
    raise ValueError(
      f'{top} holds no runs: python -m fedpm_jax.train makes some.'
    )
  return '\n'.join(
    [aligned(_LIST, rows), *([''] if problems else []), *problems]
  )


def _line(folder: pathlib.Path, top: pathlib.Path) -> tuple[str, ...]:
  run = run_files.read(folder, [])
  number = lambda value: '' if value is None else f'{value:.4f}'
  return (
    folder.relative_to(top).as_posix(),
    f'{len(run.rows)} of {run.num_rounds or "?"}',
    number(last(run.rows, records.ACCURACY)),
    number(last(run.rows, _SAMPLED)),
    number(_mean(run, 'uplink/bpp_wire')),
    number(_mean(run, 'downlink/bpp_wire')),
    run.state,
    _when(folder),
  )


def _when(folder: pathlib.Path) -> str:
  """When the last row was written, in the local time."""
  try:
    seconds = (folder / 'metrics.jsonl').stat().st_mtime
  except OSError:
    return ''
  return f'{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}'


def aligned(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
  """Columns of text, the first one at the left, the others at the right."""
  lines = [tuple(map(printable, row)) for row in [header, *rows]]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return '\n'.join(
    '  '.join(
      [
        line[0].ljust(widths[0]),
        *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)),
      ]
    ).rstrip()
    for line in lines
  )
