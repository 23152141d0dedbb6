"""`fedpm sweep --set key=value`: the same change of every run of a sweep.

What is changed is part of the folder's name, and is noted down in the folder, so
that runs with and without a change never stand in one table.
"""

import pathlib

from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import config_files, sweeps
from fedpm_jax.system import files, reading

NAME = 'changes.json'
# Where a run finds its data is no part of its name.
_NOT_NAMED = ('data.dir', 'data.cache_dir')
_REMEDY = 'Use a new --workdir.'


def apply(
  runs: list[sweeps.Run], settings: list[str]
) -> tuple[list[sweeps.Run], dict[str, str]]:
  """The runs of a sweep with changes, and what is changed.

  An option of an algorithm, say, is set in the runs that use it.

  Args:
    runs: all of the sweep.
    settings: each `key=value`, as `--config.key=value` of one run.

  Returns:
    The runs, and the values by key, as text: those that differ from what some
    run had.

  Raises:
    ValueError: there is no such key or value, no run uses it, or runs that were
      different would be the same, such as those of all seeds.
  """
  changed = [
    run._replace(config=run.config.copy_and_resolve_references())
    for run in runs
  ]
  paths = []
  for setting in settings:
    path, separator, value = setting.partition('=')
    if not separator:
      raise ValueError(
        f'--set takes key=value, such as rounds=5, got {setting!r}.'
      )
    path = path.removeprefix('config.')
    users = [run for run in changed if _uses(run, path)]
    for run in users or changed[:1]:
      configs.override(run.config, path, value)
    if not users:
      raise ValueError(
        f'--set {setting}: no run of this sweep uses the options of'
        f' {path.partition(".")[0]}.'
      )
    paths.append(path)
  if settings:
    _check_apart(runs, changed)
    sweeps.check(changed)
  named = {}
  for path in paths:
    pairs = zip(runs, changed, strict=True)
    values = [
      str(configs.get(new.config, path))
      for old, new in pairs
      if configs.get(old.config, path) != configs.get(new.config, path)
    ]
    if values and path not in _NOT_NAMED:
      named[path] = values[0]
  return changed, dict(sorted(named.items()))


def check_folder(workdir: pathlib.Path, changes: dict[str, str]) -> None:
  """Raises ValueError where a folder holds a sweep with other changes."""
  there = _read(workdir)
  if there is not None and there != changes:
    raise ValueError(
      f'{workdir} holds a sweep with {_shown(there)}, got {_shown(changes)}.'
      f' {_REMEDY}'
    )


def note(workdir: pathlib.Path, changes: dict[str, str]) -> None:
  """Writes down what is changed, if anything is."""
  if changes:
    files.write_json(workdir / NAME, changes)


def folder_name(stem: str, changes: dict[str, str]) -> str:
  """Such as 'comparison,rounds=5', of a sweep's file and its changes."""
  words = [f'{path}={value}' for path, value in changes.items()]
  return config_files.folder_name([stem, *words])


def _read(workdir: pathlib.Path) -> dict[str, str] | None:
  """The changes of the sweep in a folder; None where there is no sweep."""
  try:
    return reading.read_json(workdir / NAME, {str: str}, remedy=_REMEDY)
  except FileNotFoundError:
    return {} if (workdir / 'sweep.json').exists() else None


def _shown(changes: dict[str, str]) -> str:
  words = ' '.join(f'--set {path}={value}' for path, value in changes.items())
  return words or 'no --set'


def _uses(run: sweeps.Run, path: str) -> bool:
  """Whether a key decides something in a run, or is no option of a row."""
  section = path.partition('.')[0]
  is_option = section in configs.ROW_OPTIONS
  return not is_option or section in configs.used_sections(run.config)


def _check_apart(old: list[sweeps.Run], new: list[sweeps.Run]) -> None:
  """ValueError where different runs have become the same."""
  seen = {}
  for before, after in zip(old, new, strict=True):
    if after.parts:
      continue
    key = str(configs.to_dict(after.config))
    twin, was = seen.setdefault(key, (after, before))
    if configs.to_dict(was.config) != configs.to_dict(before.config):
      raise ValueError(
        '--set makes the same run of two, whose labels tell them apart:'
        f' {sweeps.directory(twin.labels)} and'
        f' {sweeps.directory(after.labels)}. --only chooses runs.'
      )
