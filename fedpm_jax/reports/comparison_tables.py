"""A comparison as files: comparison.csv, comparison.md, curves.csv."""

import pathlib
from typing import Any

from fedpm_jax.reports import comparison, sweep_runs, tables
from fedpm_jax.reports.sweep_runs import Group
from fedpm_jax.system import files

_HEADER = (
  'method',
  'seeds',
  'accuracy, mean network',
  'one sampled mask',
  'threshold mask',
  'uplink bpp',
  'last 10',
  'downlink bpp',
  'last 10',
  'MB up',
  'MB down',
)
_NOTES = """\
Mean +- standard deviation over the seeds (n - 1), accuracies of the {evaluated_on} set
after the last round.  bpp: bits per parameter, client and round, as sent,
headers included, over all rounds; 'last 10' over the last ten.  MB: 10^6 bytes
of all clients in a whole run.  MB and rounds to an accuracy: until the first
evaluated round whose mean network reached it; nothing is interpolated.  The
model is one file, its mean size over the seeds: a sampled mask where clients
send sampled masks, a threshold mask of deterministic ones, the mean network,
all there is, of dense methods.
"""


def write(
  groups: list[Group],
  out: pathlib.Path,
  targets: dict[str, float],
) -> tuple[str, list[pathlib.Path]]:
  """Writes the tables of a sweep.

  Args:
    groups: of `sweep_runs.read`.
    out: where to write.
    targets: see `comparison.table`.

  Returns:
    The content of comparison.md, and the paths of all.
  """
  table = comparison.table(groups, targets)
  text = markdown(groups, table)
  contents = {
    'comparison.csv': tables.to_csv(table),
    'comparison.md': text.encode(),
    'curves.csv': tables.to_csv(comparison.curves(groups), digits=6),
  }
  for name, content in contents.items():
    files.write_bytes(out / name, content)
  return text, [out / name for name in contents]


def markdown(groups: list[Group], table: list[dict[str, Any]]) -> str:
  """A table for every data set and setting, a line for every method.

  Args:
    groups: of `sweep_runs.read`.
    table: their rows, of `comparison.table`.
  """
  settings = {}
  for group, row in zip(groups, table, strict=True):
    others = {k: v for k, v in group.labels.items() if k != 'method'}
    settings.setdefault(_title(others), []).append(row)
  notes = _NOTES.format(evaluated_on=sweep_runs.evaluated_on(groups))
  lines = ['# Comparison', '', notes]
  for title, rows in settings.items():
    target = rows[0]['target']
    header = [*_HEADER]
    if target is not None:
      to = f'to {target:g}'
      header += [f'MB sent up {to}', f'MB both ways {to}', f'rounds {to}']
    header += ['model kB', 'model bpp']
    lines += [f'## {tables.escaped(title)}', '', tables.line(header)]
    lines.append('| --- |' + ' ---: |' * (len(header) - 1))
    lines += [tables.line(_cells(row)) for row in rows]
    lines.append('')
  missing = [run for group in groups for run in group.missing]
  if missing:
    lines += [f'{len(missing)} runs missing or failed:', '']
    lines += [
      f'- {tables.code(run.path)}: {tables.escaped(run.reason or "")}'
      for run in missing
    ]
    lines.append('')
  return '\n'.join(lines)


def _title(labels) -> str:
  """Such as `digits: split iid, participation 1`."""
  others = [f'{k} {v}' for k, v in labels.items() if k != 'data']
  return f'{labels["data"]}: {", ".join(others)}' if others else labels['data']


def _cells(row) -> list[str]:
  seeds, missing = row['seed_count'], row['missing_runs']
  cells = [
    tables.escaped(row['method']),
    f'{seeds} of {seeds + missing}' if missing else f'{seeds}',
    _spread(row, 'accuracy_mean_network'),
    _spread(row, 'accuracy_sampled'),
    _spread(row, 'accuracy_threshold'),
  ]
  for way in ('uplink', 'downlink'):
    for name in (f'{way}_bpp_wire', f'{way}_bpp_wire_last10'):
      cells.append(_number(row[name], '#.4g'))
  cells += [_megabytes(row[f'megabytes_{way}']) for way in ('up', 'down')]
  if row['target'] is not None:
    reached = row['seeds_at_target']
    if seeds and reached < seeds:
      cells += [f'reached by {reached} of {seeds} seeds', '', '']
    else:
      cells.append(_megabytes(row['megabytes_up_to_target']))
      cells.append(_megabytes(row['megabytes_to_target']))
      cells.append(_number(row['rounds_to_target'], '.1f'))
  size = row['model_bytes']
  cells.append('' if size is None else f'{size / 1e3:,.1f}')
  cells.append(_number(row['model_bpp'], '#.4g'))
  return cells


def _number(value, form) -> str:
  return '' if value is None else f'{value:{form}}'


def _megabytes(value) -> str:
  """Three digits at least, and no exponent."""
  if value is None:
    return ''
  return f'{value:#.3g}' if value < 100 else f'{value:,.0f}'


def _spread(row, name) -> str:
  """Mean and standard deviation, where there is one."""
  mean, std = row[name], row[f'{name}_std']
  return _number(mean, '.3f') + ('' if std is None else f' +- {std:.3f}')
