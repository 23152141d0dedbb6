"""The runs below a sweep's folder: read, checked, and put into groups.

A run of which a file is damaged is a missing run like one that failed: its
reason is told, and the numbers of the others are what they would be without it.
"""

import collections
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from fedpm_jax.reports import records
from fedpm_jax.reports import summary as summaries
from fedpm_jax.system import reading, text

_LABELS: reading.Shape = {'data': str, 'method': str, 'seed': str, str: str}
_AGAIN = 'Start the sweep again: the file is written anew.'
_MAX_REASON = 500  # characters; error.txt may hold anything
_MAX_KEYS = 5  # that are named where configurations differ


class Run(NamedTuple):
  """What a run left.

  Attributes:
    path: of its folder, relative to the sweep's.
    labels: as in labels.json.
    rows: of metrics.jsonl, all rounds of a finished run; of others none.
    summary: None if the run is not finished, or damaged.
    reason: why it is not, or what is; else None.
  """

  path: str
  labels: dict[str, str]
  rows: list[dict[str, Any]]
  summary: dict[str, Any] | None
  reason: str | None


class Group(NamedTuple):
  """Runs that differ by their seed only.

  Attributes:
    labels: without the seed.
    runs: the finished ones.
    missing: the others.
  """

  labels: dict[str, str]
  runs: list[Run]
  missing: list[Run]


def read(workdir: pathlib.Path) -> list[Group]:
  """The runs below a folder, in the order of the sweep.

  Raises:
    ValueError: there are none, or runs of one group had different rounds or
      networks, so that a mean over them says nothing.
  """
  names, _ = order(workdir)
  rank = {name: i for i, name in enumerate(names)}
  folders = _folders(workdir, rank)
  if not folders:
    raise ValueError(
      f'{workdir} holds no runs of a sweep: python -m fedpm_jax.sweep makes'
      ' some.'
    )
  folders.sort(key=lambda name: (rank.get(name, len(rank)), name))
  runs = [_read_run(workdir / name, name) for name in folders]
  groups: dict[Any, Group] = {}
  for run in _with_labels(runs):
    labels = {k: v for k, v in run.labels.items() if k != 'seed'}
    group = groups.setdefault(tuple(labels.items()), Group(labels, [], []))
    (group.missing if run.summary is None else group.runs).append(run)
  for group in groups.values():
    _check_alike(group.runs)
  return list(groups.values())


def order(workdir: pathlib.Path) -> tuple[list[str], str | None]:
  """The folders of a sweep in its order, and why they are unknown, or None."""
  try:
    return reading.read_json(workdir / 'sweep.json', [str], remedy=_AGAIN), None
  except FileNotFoundError:
    return [], None
  except reading.FileError as error:
    return [], str(error)


def _folders(workdir: pathlib.Path, known: dict[str, int]) -> list[str]:
  """Folders of runs: those with labels, and those that the sweep has made."""
  folders = []
  for folder, inner, names in os.walk(workdir):
    name = pathlib.Path(folder).relative_to(workdir).as_posix()
    has_labels = 'labels.json' in {*names, *inner}
    if has_labels or name in known:
      folders.append(name)
    if has_labels:
      inner.clear()  # checkpoints are many files
  return folders


def _read_run(folder: pathlib.Path, name: str) -> Run:
  """A run, without labels where they are damaged; nothing is raised."""
  labels, problem = {}, None
  try:
    labels = _labels(folder / 'labels.json')
  except reading.FileError as error:
    problem = str(error)
  try:
    reason = problem or _failure(folder)
    if reason:
      return Run(name, labels, [], None, reason)
    rows = records.read_rows(folder / 'metrics.jsonl')
    if not os.path.lexists(folder / 'summary.json'):
      reason = f'not finished, {len(rows)} rounds recorded'
      return Run(name, labels, [], None, reason)
    summary = summaries.read(folder / 'summary.json')
    summaries.check_whole(folder, rows, summary)
  except (reading.FileError, OSError) as error:
    return Run(name, labels, [], None, str(error))
  return Run(name, labels, rows, summary, None)


def _labels(path: pathlib.Path) -> dict[str, str]:
  """The labels of a run, which its folder is named by.

  So a label that was lost, and a copy of a folder, is no run of its own.
  """
  try:
    labels = reading.read_json(path, _LABELS, remedy=_AGAIN)
  except FileNotFoundError as error:
    raise reading.FileError(path, 'there is no such file', _AGAIN) from error
  named = [f'seed_{v}' if k == 'seed' else v for k, v in labels.items()]
  parts = os.path.abspath(path).split(os.sep)[:-1]
  if parts[-len(named) :] != named:
    problem = f'its labels are those of a folder {"/".join(named)!r}'
    raise reading.FileError(path, problem, _AGAIN)
  return labels


def _failure(folder: pathlib.Path) -> str | None:
  """What the first line of error.txt says, if there is one."""
  path = folder / 'error.txt'
  try:
    with open(path, encoding='utf-8', errors='backslashreplace') as file:
      line = file.readline(_MAX_REASON).strip()
  except FileNotFoundError:
    return None
  except OSError as error:
    line = f'{path}: {reading.reason(error)}'
  return line or f'{path}: it does not say why the run failed'


def _with_labels(runs: list[Run]) -> list[Run]:
  """Runs of the same labels; damaged ones get those that their folder tells of.

  A sweep names folders by their labels, `digits/fedpm/seed_0`.  Whatever has
  another name is a method of its own.
  """
  named = collections.Counter(tuple(run.labels) for run in runs if run.labels)
  names = named.most_common(1)[0][0] if named else ()
  found = []
  for run in runs:
    if run.labels and tuple(run.labels) != names:
      reason = f'labels.json has {list(run.labels)}, other runs {list(names)}'
      run = Run(run.path, {}, [], None, f'{run.path}: {reason}. {_AGAIN}')
    if not run.labels:
      run = run._replace(labels=_told_by(run.path, names))
    found.append(run)
  return found


def _told_by(path: str, names: tuple[str, ...]) -> dict[str, str]:
  parts = path.split('/')
  if len(parts) == len(names):
    labels = dict(zip(names, parts, strict=True))
    if labels['seed'].startswith('seed_'):
      return labels | {'seed': labels['seed'].removeprefix('seed_')}
  return {'data': 'unknown', 'method': path}


def _check_alike(runs: list[Run]) -> None:
  """ValueError if runs of one group cannot be averaged."""
  for what, value in (
    ('rounds', lambda run: len(run.rows)),
    ('evaluated rounds', lambda run: [i + 1 for i, _ in evaluated(run)]),
    ('parameters', lambda run: run.summary['model']['num_parameters']),
    ('configuration', _without_seed),
  ):
    for run in runs:
      if value(run) != value(runs[0]):
        raise ValueError(
          f'{runs[0].path} and {run.path} have the same labels but differ in'
          f' their {what}: {_differing(value(runs[0]), value(run))}. Label them'
          ' apart, or run one of them again in a new folder.'
        )


def _without_seed(run) -> dict[str, Any]:
  """The configuration by dotted keys."""
  config = run.summary['config']
  return dict(_flat({k: v for k, v in config.items() if k != 'seed'}))


def _flat(
  config: dict[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  """Every value with its dotted key."""
  for key, value in config.items():
    if isinstance(value, dict):
      yield from _flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def _differing(one: Any, other: Any) -> str:
  """Two values; of long ones what differs."""
  if isinstance(one, list):
    return f'one has {text.short(sorted({*one} ^ {*other}))} alone'
  if not isinstance(one, dict):
    return f'{text.short(one)} and {text.short(other)}'
  keys = [key for key in one | other if one.get(key) != other.get(key)]
  words = [
    f'{text.printable(key)} = {text.short(one.get(key))} and'
    f' {text.short(other.get(key))}'
    for key in keys[:_MAX_KEYS]
  ]
  more = len(keys) - len(words)
  return '; '.join(words) + (f'; and {more} more keys' if more else '')


def evaluated_on(groups: list[Group]) -> str:
  """Which set the accuracies of all these runs are of, as `records` calls it."""
  summaries = [run.summary for group in groups for run in group.runs]
  found = sorted({records.evaluated_on(x['config']) for x in summaries if x})
  return ' or '.join(found) or 'test'


def evaluated(run: Run) -> list[tuple[int, float]]:
  """Positions and accuracies of the rows that were evaluated."""
  return [
    (i, row[records.ACCURACY])
    for i, row in enumerate(run.rows)
    if records.ACCURACY in row
  ]
