"""Runs as they lie on the disk, for the page, the table and the list."""

import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from fedpm_jax.reports import curves, history, records, style
from fedpm_jax.reports import summary as summaries
from fedpm_jax.system import lock, reading

_ROWS = 'metrics.jsonl'
# Folders of files, thousands of them, that are no runs.
_NO_RUNS = {'checkpoints', 'symbols'}
_REMEDY = 'Start the run again: the file is written anew.'
_MOST_NAMED = 3  # keys in the name of a line


class Run(NamedTuple):
  """What a run has left until now.

  Attributes:
    folder: of the run.
    rows: of metrics.jsonl, at least one.
    config: of config.json.
    summary: of summary.json; None where the run has not come to its end.
    history: of history.json; None for a run of an older version.
    starts: of starts.jsonl.
  """

  folder: pathlib.Path
  rows: list[dict[str, Any]]
  config: dict[str, Any]
  summary: dict[str, Any] | None
  history: dict[str, Any] | None
  starts: list[dict[str, Any]]

  @property
  def name(self) -> str:
    """That of the folder."""
    return self.folder.name or str(self.folder)

  @property
  def state(self) -> str:
    """'finished', 'running' or 'stopped'."""
    if self.summary is not None:
      return 'finished'
    return 'running' if lock.is_held(self.folder) else 'stopped'

  @property
  def num_rounds(self) -> int | None:
    """How many rounds it is to have; None where the configuration is odd."""
    found = self.config.get('rounds')
    return found if isinstance(found, int) else None


class Group(NamedTuple):
  """Runs that differ by their seed only.

  Attributes:
    name: that no other group has.
    runs: at least one.
    colour: of its lines.
  """

  name: str
  runs: list[Run]
  colour: str

  @property
  def lines(self) -> curves.Group:
    """What curves are drawn of."""
    return curves.Group(self.name, [r.rows for r in self.runs], self.colour)


def read(folder: pathlib.Path, starts: list[dict[str, Any]]) -> Run:
  """A run.

  Args:
    folder: of the run.
    starts: of its starts.jsonl.

  Raises:
    ValueError: there is no such run, or it has no round yet.
    FileError: a file of it is damaged.
  """
  if not folder.is_dir():
    raise ValueError(
      f'There is no run {str(folder)!r}: expected a folder that `fedpm train`'
      ' wrote; `fedpm report --list` shows those below a folder.'
    )
  rows = records.read_rows(folder / _ROWS)
  if not rows:
    raise ValueError(
      f'{folder} has no round: {_ROWS} is missing or empty. Expected a folder'
      ' that `fedpm train` wrote.'
    )
  path = folder / 'config.json'
  try:
    config = reading.read_json(path, dict, remedy=_REMEDY)
  except FileNotFoundError as error:
    problem = 'there is no such file'
    raise reading.FileError(path, problem, _REMEDY) from error
  summary = past = None
  if os.path.lexists(folder / 'summary.json'):
    summary = summaries.read(folder / 'summary.json')
    summaries.check_whole(folder, rows, summary)
  if os.path.lexists(folder / history.NAME):
    past = history.read(folder / history.NAME)
  return Run(folder, rows, config, summary, past, starts)


def folders(top: pathlib.Path) -> Iterator[pathlib.Path]:
  """The folders of runs at or below a folder, by name."""
  for folder, inner, names in os.walk(top):
    inner[:] = sorted(set(inner) - _NO_RUNS)
    if _ROWS in names:
      yield pathlib.Path(folder)


def flat(config: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  """A nested configuration as `section.key`: value."""
  found = {}
  for key, value in config.items():
    if isinstance(value, dict):
      found |= flat(value, f'{prefix}{key}.')
    else:
      found[f'{prefix}{key}'] = value
  return found


def differing(runs: Iterable[Run]) -> list[str]:
  """The keys, but for the seed, in which some of the runs differ."""
  configs = [flat(run.config) for run in runs]
  keys = list(dict.fromkeys(key for config in configs for key in config))
  values = lambda key: [config.get(key, ...) for config in configs]
  return [
    key
    for key in keys
    if key != 'seed' and any(v != values(key)[0] for v in values(key))
  ]


def groups(runs: list[Run]) -> list[Group]:
  """The runs, those that differ by their seed only together, each with a name.

  Raises:
    ValueError: a run is there twice.
  """
  keys = differing(runs)
  found: list[list[Run]] = []
  for run in runs:
    for others in found:
      if _is_same(run, others[0], keys):
        if any(run.config.get('seed') == o.config.get('seed') for o in others):
          raise ValueError(
            f'{others[0].folder} and {run.folder} are the same run, of one'
            ' configuration and one seed: leave one of them out.'
          )
        others.append(run)
        break
    else:
      found.append([run])
  names = _names(found, keys)
  return [
    Group(name, members, style.COLOURS[i % len(style.COLOURS)])
    for i, (name, members) in enumerate(zip(names, found, strict=True))
  ]


def _is_same(run: Run, other: Run, keys: list[str]) -> bool:
  mine, others = flat(run.config), flat(other.config)
  return all(mine.get(key, ...) == others.get(key, ...) for key in keys)


def _names(found: list[list[Run]], keys: list[str]) -> list[str]:
  """What a group differs in, where that is short; else its first folder."""
  # What follows from the method, such as its options, says no more.
  names = [members[0].name for members in found]
  if 0 < len(keys) <= _MOST_NAMED:
    names = [
      ', '.join(
        f'{key.rpartition(".")[2]} {value}'
        for key in keys
        if (value := flat(members[0].config).get(key)) is not None
      )
      for members in found
    ]
  if len({*names}) < len(names) or not all(names):
    names = [str(members[0].folder) for members in found]
  return names
