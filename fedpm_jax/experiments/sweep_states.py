"""What a sweep has done and what is left of it; nothing is written here."""

import collections
import pathlib
from typing import Any, NamedTuple

from fedpm_jax.experiments import checkpoint, sweeps
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.sweep_times import Times
from fedpm_jax.reports import records
from fedpm_jax.system import lock, reading, text

FINISHED, RUNNING, STOPPED = 'finished', 'running', 'stopped'
FAILED, TO_DO, OTHER = 'failed', 'to do', 'in the way'
_NOTHING_LEFT = (FINISHED, OTHER)  # What is in the way is never replaced.
_MOST = 200  # characters of a reason


class State(NamedTuple):
  """What became of a run until now.

  Attributes:
    name: of its folder, relative to the sweep's.
    kind: one of the words above.
    rounds_done: those that need not be run again.
    rounds: of the whole run.
    reason: why it failed, or what is in the way; or empty.
    config: as `build.describe` made it; None where that failed.
  """

  name: str
  kind: str
  rounds_done: int
  rounds: int
  reason: str
  config: dict[str, Any] | None

  def __str__(self) -> str:
    words = self.kind
    if self.rounds_done and self.kind != FINISHED:
      words += f' at round {self.rounds_done} of {self.rounds}'
    return f'{words}: {self.reason}' if self.reason else words


def states(runs: list[sweeps.Run], workdir: pathlib.Path) -> list[State]:
  """Of each run, in their order."""
  return [_state(run, workdir) for run in runs]


def _state(run: sweeps.Run, workdir: pathlib.Path) -> State:
  relative = sweeps.directory(run.labels)
  folder, config = workdir / relative, sweeps.described(run)
  kind, done = TO_DO, checkpoint.newest(folder)
  reason = _failure(folder)
  changes = _differences(folder, config)
  if sweeps.is_finished(folder, run):
    kind, done, reason = FINISHED, run.config.rounds, ''
  elif lock.is_held(folder):
    kind, reason = RUNNING, ''
    done = len(records.good_rows(folder / 'metrics.jsonl'))
  elif changes:
    kind, done, reason = OTHER, 0, f'another run, {"; ".join(changes)}'
  elif reason:
    kind = FAILED
  elif done:
    kind = STOPPED
  reason = text.printable(reason)[:_MOST]
  return State(
    relative.as_posix(), kind, done, run.config.rounds, reason, config
  )


def _failure(folder: pathlib.Path) -> str:
  """The first line of error.txt, if there is one."""
  try:
    with open(folder / 'error.txt', encoding='utf-8', errors='replace') as file:
      return file.readline().strip()
  except OSError:
    return ''


def _differences(
  folder: pathlib.Path, config: dict[str, Any] | None
) -> list[str]:
  """In what the run of a folder differs from the one that is to be there.

  None where it has left nothing but its configuration, which a sweep replaces.
  """
  recorded = ('summary.json', 'metrics.jsonl')
  if not checkpoint.newest(folder) and not any(
    (folder / name).is_file() and (folder / name).stat().st_size
    for name in recorded
  ):
    return []
  try:
    there = reading.read_json(folder / 'config.json', dict)
  except (OSError, ValueError):
    return []
  if config is None:
    return []
  return checkpoint.differences(
    configs.deciding(there), configs.deciding(config)
  )


def table(
  found: list[State],
  workdir: pathlib.Path,
  times: Times | None = None,
  jobs: int = 1,
) -> str:
  """A line for each run, and how many there are of a kind.

  Args:
    found: the states of the runs.
    workdir: of the sweep.
    times: what their rounds take, if that is asked for.
    jobs: processes side by side.
  """
  width = max(len(state.name) for state in found)
  lines = []
  for state in found:
    line = f'{state.name:{width}}  {state}'
    if times and state.kind not in _NOTHING_LEFT:
      left = state.rounds - state.rounds_done
      seconds = times.seconds(state.config, left)
      known = 'unknown time' if seconds is None else text.duration(seconds)
      line += f', {known}'
    lines.append(line)
  kinds = collections.Counter(state.kind for state in found)
  counts = ', '.join(f'{count} {kind}' for kind, count in kinds.items())
  where = text.printable(str(workdir))
  lines.append(f'{len(found)} runs in {where}: {counts}.')
  if times:
    left = times.left(left_of(found))
    lines.append(
      f'Time left, with --jobs={jobs}, as this folder has measured rounds:'
      f' {left.text(jobs)}.'
    )
  return '\n'.join(lines)


def left_of(found: list[State]) -> list[tuple[dict[str, Any] | None, int]]:
  """The runs that will be run, for `Times.left`."""
  return [
    (state.config, state.rounds - state.rounds_done)
    for state in found
    if state.kind not in _NOTHING_LEFT
  ]
