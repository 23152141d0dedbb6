"""The lower half of the page of runs: configuration, environment, commands."""

import json
from typing import Any

from fedpm_jax.reports import markup, run_files
from fedpm_jax.reports.run_files import Group, Run

_MOST_COMMANDS = 50


def configuration(groups: list[Group]) -> str:
  """All keys, a column a group; where groups differ, the row is marked."""
  configs = [run_files.flat(group.runs[0].config) for group in groups]
  keys = sorted({key for config in configs for key in config})
  differs = {*run_files.differing([group.runs[0] for group in groups])}
  header = ['key', *(group.name for group in groups)]
  rows = []
  # What differs comes first: a reader of several runs looks for that.
  for key in sorted(keys, key=lambda key: (key not in differs, key)):
    values = [_value(config.get(key, ...)) for config in configs]
    if key == 'seed':
      values = [_seeds(group) for group in groups]
    rows.append(('differs' if key in differs else '', [key, *values]))
  return markup.table(header, rows, numbers=False, kind='config')


def _value(value: Any) -> str:
  """As JSON, which tells 1 from '1'; empty where there is no such key."""
  return '' if value is ... else json.dumps(value, ensure_ascii=False)


def _seeds(group: Group) -> str:
  return ', '.join(_value(run.config.get('seed', ...)) for run in group.runs)


def environment(groups: list[Group]) -> str:
  """Versions, device and commit, a column for each that there was."""
  columns: dict[tuple[tuple[str, str], ...], list[str]] = {}
  for run in _runs(groups):
    columns.setdefault(tuple(_facts(run).items()), []).append(run.name)
  facts = [dict(column) for column in columns]
  names = list(dict.fromkeys(name for found in facts for name in found))
  if not names:
    return markup.note(
      'Nothing is known: a run that is not finished has no summary.json, and'
      ' this one no starts.jsonl.'
    )
  header = ['', *('; '.join(of) for of in columns.values())]
  rows = [
    ('', [name, *(found.get(name, '') for found in facts)]) for name in names
  ]
  return markup.table(header, rows, numbers=False, kind='config')


def _facts(run: Run) -> dict[str, str]:
  """What is known of the machine and the code of a run."""
  found: dict[str, str] = {}
  if run.summary:
    found['device'] = run.summary['device']
    versions = run.summary['versions']
    found |= {str(name): str(version) for name, version in versions.items()}
  of_starts = {
    'device': 'device',
    'fedpm_jax': 'fedpm_jax',
    'commit': 'commit',
    'environment variables': 'environment',
  }
  for label, field in of_starts.items():
    values = [start[field] for start in run.starts if start.get(field)]
    texts = dict.fromkeys(
      value if isinstance(value, str) else _value(value) for value in values
    )
    if texts:
      found[label] = '; '.join(texts)
  return found


def commands(groups: list[Group]) -> str:
  """Every start of every run: when, and by which command."""
  starts = [(run, start) for run in _runs(groups) for start in run.starts]
  if not starts:
    return markup.note('Nothing is known: there is no starts.jsonl.')
  parts = [
    f'<h3>{markup.text(run.name)}, {markup.text(start["date"])}'
    + (
      f', from round {start["rounds_done"] + 1}' if start['rounds_done'] else ''
    )
    + f'</h3><pre>{markup.text(start["command"])}</pre>'
    for run, start in starts[:_MOST_COMMANDS]
  ]
  left_out = len(starts) - len(parts)
  more = markup.note(f'{left_out} more starts.') if left_out else ''
  return ''.join(parts) + more


def _runs(groups: list[Group]) -> list[Run]:
  return [run for group in groups for run in group.runs]
