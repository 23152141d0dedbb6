"""Many runs: which ones a sweep's file asks for, and what becomes of them.

A sweep's file is Python with a function `get_sweep() -> list[Run]`.  Every run
is one of `fedpm_jax.train` in a folder of its own, named by its labels, for
example `runs/comparison/digits/fedpm/iid/1/seed_0`.
"""

import contextlib
import functools
import pathlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fedpm_jax.experiments import (
  build,
  checkpoint,
  config_files,
  earlier,
  sweep_progress,
  sweep_times,
  workers,
)
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.config import Config
from fedpm_jax.experiments.run import train
from fedpm_jax.system import files, text

_NEEDED = ('data', 'method', 'seed')  # labels that every run has
_VALUE = re.compile(r'[A-Za-z0-9_+-][A-Za-z0-9_.+-]*')  # a folder's name


class Run(NamedTuple):
  """One run of a sweep.

  Attributes:
    labels: what it is a run of, in the order of the folders, for example
      `{'data': 'digits', 'method': 'fedpm', 'split': 'iid', 'seed': '0'}`.
    config: of `fedpm_jax.train`.
    parts: () -> objects of one's own, as keyword arguments of `Experiment`;
      called in the process that trains, and to see whether a run is finished.
  """

  labels: dict[str, str]
  config: Config
  parts: Callable[[], dict[str, Any]] | None = None


def read(path: pathlib.Path) -> list[Run]:
  """The runs of a sweep's file.

  Raises:
    ValueError: it has no get_sweep, that fails or gives something else, or its
      runs make no sense (`check`).
  """
  module = config_files.load(path.resolve())
  if not hasattr(module, 'get_sweep'):
    raise ValueError(f'{path} has no function get_sweep() -> list[sweeps.Run].')
  runs = config_files.call(path, module, 'get_sweep')
  if not isinstance(runs, list | tuple):
    raise ValueError(f'{path}: get_sweep() must return a list, got {runs!r}.')
  for i, run in enumerate(runs):
    what = f'{path}: run {i} of get_sweep()'
    if not isinstance(run, Run) or not isinstance(run.labels, dict):
      got = text.one_line(text.short(run))
      raise ValueError(f'{what} must be a sweeps.Run with labels, got {got}.')
    config_files.check(run.config, f'{what}, {run.labels},')
  check(list(runs))
  return list(runs)


def parts_of(path: pathlib.Path, labels: dict[str, str]) -> dict[str, Any]:
  """The objects of a run, in a process that knows its sweep's file only."""
  module = config_files.load(path)
  for run in config_files.call(path, module, 'get_sweep'):
    if run.labels == labels and run.parts:
      return run.parts()
  raise ValueError(f'{path} has no run {labels} with parts any more.')


def check(runs: list[Run]) -> None:
  """Raises ValueError for the first run that cannot be meant."""
  seen = set()
  for run in runs:
    names = list(run.labels)
    if names != list(runs[0].labels) or not set(_NEEDED) <= set(names):
      raise ValueError(
        f'All runs need the same labels, {_NEEDED} among them: got {names}'
        f' and {list(runs[0].labels)}.'
      )
    for name, value in run.labels.items():
      if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ValueError(
          f'A label names a folder: letters, digits and _ . + -, got {name} ='
          f' {value!r}.'
        )
    folder = directory(run.labels)
    if folder in seen:
      raise ValueError(f'Two runs have the folder {folder}: label them apart.')
    seen.add(folder)
    try:
      # Parts of one's own are checked where they are trained.
      configs.validate(run.config) if run.parts else build.check(run.config)
    except ValueError as error:
      raise ValueError(f'{folder}: {error}') from error


def directory(labels: dict[str, str]) -> pathlib.Path:
  """A run's folder, relative to that of the sweep."""
  return pathlib.Path(
    *(f'seed_{v}' if name == 'seed' else v for name, v in labels.items())
  )


def select(runs: list[Run], only: list[str]) -> list[Run]:
  """The runs that every `label=value,value` of `only` allows.

  Raises:
    ValueError: there is no such label, value or run.
  """
  for allowed in only:
    name, _, values = allowed.partition('=')
    known = {}  # in the order of the sweep
    for run in runs:
      if name not in run.labels:
        raise ValueError(
          f'--only takes label=value,value with a label of'
          f' {list(run.labels)}, got {allowed!r}.'
        )
      known[run.labels[name]] = None
    wanted = values.split(',')
    for value in wanted:
      if value not in known:
        raise ValueError(
          f'--only {allowed}: {name} is one of {list(known)} here, got {value!r}.'
        )
    runs = [run for run in runs if run.labels[name] in wanted]
  if not runs:
    raise ValueError('The sweep has no runs: nothing to do.')
  return runs


def described(run: Run) -> dict[str, Any] | None:
  """What determines a run, as its config.json; None where that fails."""
  try:
    parts = build.Parts(**run.parts()) if run.parts else build.NO_PARTS
    return files.to_json(build.describe(run.config, parts))
  except Exception:  # The run itself will say what is wrong.
    return None


def is_finished(folder: pathlib.Path, run: Run) -> bool:
  """Whether the folder holds the finished run of just this configuration."""
  summary = earlier.finished(folder)
  if summary is None:
    return False
  here, there = described(run), summary['config']
  ended = summary.get(earlier.ENDED)
  return here is not None and (
    configs.deciding(there) == configs.deciding(here)
    and there.get('rounds') == here['rounds']
    and (not ended or earlier.is_over(summary, here))
  )


def prepare(
  runs: list[Run], workdir: pathlib.Path, source: pathlib.Path | None = None
) -> list[workers.Task]:
  """Labels the folders of all runs, so that a report knows what is missing.

  Returns:
    The runs that are not finished.
  """
  tasks = []
  for run in runs:
    folder = workdir / directory(run.labels)
    files.write_json(folder / 'labels.json', run.labels)
    if is_finished(folder, run):
      (folder / 'error.txt').unlink(missing_ok=True)
      continue
    parts = run.parts
    if parts and source:  # The file can be loaded anew, a closure cannot.
      parts = functools.partial(parts_of, source.resolve(), run.labels)
    tasks.append(workers.Task(folder, run.config, parts))
  return tasks


def execute(
  runs: list[Run],
  workdir: pathlib.Path,
  *,
  jobs: int = 1,
  source: pathlib.Path | None = None,
  function: Callable[..., dict[str, Any]] = train,
  stop: Callable[[], bool] | None = None,
) -> int:
  """Runs what is not finished, and shows how far it is.

  Args:
    runs: checked ones.
    workdir: of the sweep.
    jobs: processes side by side; 0 for all runs in this one.
    source: the sweep's file, if its runs have parts of one's own.
    function: of `workers.run_one`.
    stop: of `workers.run_one`, where all runs are in this process.

  Returns:
    The exit code: 0, or 1 if runs failed.
  """
  started, tasks = time.perf_counter(), prepare(runs, workdir, source)
  processes = min(jobs, len(tasks))
  with _progress(tasks, runs, workdir, max(processes, 1)) as progress:
    if jobs:
      outcomes = workers.side_by_side(
        tasks, function, processes, begun=progress.begun
      )
    else:
      outcomes = workers.one_by_one(tasks, function, stop, begun=progress.begun)
    with contextlib.closing(outcomes):
      for outcome in outcomes:
        progress.ended(outcome)
  failed = progress.failed
  print(
    f'{len(runs)} runs in {workdir}: {len(runs) - len(tasks)} were finished'
    f' before, {len(tasks) - len(failed)} now, {len(failed)} failed;'
    f' {time.perf_counter() - started:.0f} s.'
  )
  for line in failed:
    print(f'failed: {line}', file=sys.stderr)
  return 1 if failed else 0


def _progress(
  tasks: list[workers.Task], runs: list[Run], workdir: pathlib.Path, jobs: int
) -> sweep_progress.Progress:
  """Of a sweep; it knows what the rounds in the folder have taken."""
  times = sweep_times.Times()
  for run in runs:
    times.add(workdir / directory(run.labels))
  left = {
    task.folder: (
      # To describe parts of one's own may take long, as data do.
      None if task.parts else files.to_json(configs.to_dict(task.config)),
      task.config.rounds - checkpoint.newest(task.folder),
    )
    for task in tasks
  }
  return sweep_progress.Progress(workdir, left, times, jobs)
