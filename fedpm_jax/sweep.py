"""Many runs: `python -m fedpm_jax.sweep --config=comparison --jobs=2`.

    --config=NAME      a file in configs/sweeps by name, or *.py
    --workdir=FOLDER   where to write; runs/<config> by default
    --jobs=N           processes side by side (default 1); 0: all in this one
    --only=LABEL=VALUE,VALUE   some runs; again for other labels
    --set=KEY=VALUE    changes a key of every run; again for other keys
    --list             what each run has come to, and starts none
    --dry-run          likewise, and how long the rest may take

A sweep's file is Python with a function `get_sweep() -> list[sweeps.Run]`.
Every run is one of `fedpm_jax.train` in a folder of its own, named by its
labels, for example `runs/comparison/digits/fedpm/iid/1/seed_0`.  A second start
of the same command leaves the finished runs alone and continues the others; a
run that fails is listed at the end, and the others go on.  What --set changes is
in the name of the sweep's folder, such as runs/comparison,rounds=5.  `python -m
fedpm_jax.report --sweep=runs/comparison` makes tables and pictures of the
folders.
"""

from fedpm_jax.system import allocator

if __name__ == '__main__':
  allocator.restart_with_huge_pages()

import pathlib
import signal
import sys
from typing import TYPE_CHECKING

from fedpm_jax import cli

if TYPE_CHECKING:
  from fedpm_jax.experiments import sweeps


def main(argv: list[str] | None = None) -> None:
  """Runs what is not finished; a mistake of the user is one line."""
  cli.guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> None:
  flags: cli.Flags = {
    'config': '',
    'workdir': '',
    'jobs': 1,
    'only': [],
    'set': [],
    'list': False,
    'dry-run': False,
  }
  arguments = cli.parse(argv, flags, __doc__)
  cli.nothing_left(arguments)
  name, workdir, jobs, only, settings, list_, dry = arguments.flags.values()
  if arguments.overrides:
    raise ValueError(
      'A sweep sets its own configurations: --config.* is for one run, got'
      f' {arguments.overrides}. --set=KEY=VALUE changes every run.'
    )
  if not name or jobs < 0:
    raise ValueError(
      'Give --config=NAME, such as comparison, and --jobs of at least 0, got'
      f' {name!r} and {jobs}.'
    )
  # Heavy imports wait until the flags are right.
  from fedpm_jax.experiments import config_files, sweep_changes, sweeps
  from fedpm_jax.system import files, lock

  path = config_files.find(name, 'sweeps')
  sweep, changes = sweep_changes.apply(sweeps.read(path), settings)
  default = sweep_changes.folder_name(path.stem, changes)
  folder = pathlib.Path(workdir or pathlib.Path('runs') / default)
  runs = sweeps.select(sweep, only)
  sweep_changes.check_folder(folder, changes)
  if list_ or dry:
    print(_listed(runs, sweep, folder, jobs if dry else None))
    return
  order = [str(sweeps.directory(run.labels)) for run in sweep]
  with lock.locked(folder):
    sweep_changes.note(folder, changes)
    files.write_json(folder / 'sweep.json', order)
    sys.exit(_execute(runs, folder, jobs, path))


def _listed(
  runs: list['sweeps.Run'],
  sweep: list['sweeps.Run'],
  folder: pathlib.Path,
  jobs: int | None,
) -> str:
  """What the runs have come to, with the time that is left if jobs are given.

  Args:
    runs: those that are meant.
    sweep: all runs of the sweep, whose rounds tell what others will take.
    folder: of the sweep.
    jobs: processes side by side.
  """
  from fedpm_jax.experiments import sweep_states, sweep_times, sweeps

  found = sweep_states.states(runs, folder)
  if jobs is None:
    return sweep_states.table(found, folder)
  times = sweep_times.Times()
  for run in sweep:
    times.add(folder / sweeps.directory(run.labels))
  return sweep_states.table(found, folder, times, max(jobs, 1))


def _execute(
  runs: list['sweeps.Run'], folder: pathlib.Path, jobs: int, path: pathlib.Path
) -> int:
  """The exit code, after what a signal has to do with it."""
  from fedpm_jax.experiments import leading, sweeps
  from fedpm_jax.system import machine

  if jobs:
    signal.signal(signal.SIGTERM, _interrupt)
    return sweeps.execute(runs, folder, jobs=jobs, source=path)
  machine.keep_compiled_programs()
  with cli.Interruptible() as interrupted:
    stop = interrupted.is_set
    try:
      return sweeps.execute(runs, folder, jobs=0, source=path, stop=stop)
    except leading.Stopped as stopped:
      print(f'\n{stopped}', file=sys.stderr)
      return interrupted.exit_code()


def _interrupt(*_: object) -> None:
  raise KeyboardInterrupt


if __name__ == '__main__':
  main()
