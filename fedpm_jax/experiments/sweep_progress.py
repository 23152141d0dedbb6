"""What a person sees of a sweep: which runs are on, how many and how long."""

import pathlib
import sys
from types import TracebackType

import tqdm

from fedpm_jax.experiments.sweep_times import Times
from fedpm_jax.experiments.workers import Outcome


class Progress:
  """A bar on a terminal; elsewhere a line where a run begins and where it ends.

  Attributes:
    failed: a line for each run that failed.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    left: dict[pathlib.Path, tuple[dict | None, int]],
    times: Times,
    jobs: int,
  ):
    """Nothing has begun.

    Args:
      workdir: of the sweep.
      left: configuration and rounds left of each run, by its folder.
      times: what the rounds of the folder have taken; learns from these runs.
      jobs: processes side by side.
    """
    self._workdir, self._left, self._times = workdir, dict(left), times
    self._jobs, self._total, self._begun = jobs, len(left), 0
    self._running: list[str] = []
    self._bar = tqdm.tqdm(total=len(left), unit='run', disable=None)
    self.failed: list[str] = []

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self._bar.close()

  def begun(self, folder: pathlib.Path) -> None:
    """A run has begun."""
    self._begun += 1
    name = self._name(folder)
    self._running.append(name)
    if self._bar.disable:
      print(f'run {self._begun} of {self._total}: {name}', flush=True)
    self._show()

  def ended(self, outcome: Outcome) -> None:
    """A run has come to its end, or failed."""
    name = self._name(outcome.folder)
    self._times.add(outcome.folder)
    self._left.pop(outcome.folder)
    self._running.remove(name)
    result = outcome.error or f'accuracy {outcome.accuracy:.4f}'
    line = (
      f'{name}  {outcome.seconds:.0f} s  {result}  ({self._what_is_left()})'
    )
    if outcome.error:
      self.failed.append(f'{name}: {outcome.error}')
      self._bar.write(line, file=sys.stderr)
    elif self._bar.disable:
      print(line, flush=True)
    self._bar.update()
    self._show()

  def _show(self) -> None:
    words = [*self._running, self._what_is_left()]
    self._bar.set_postfix_str(', '.join(words))

  def _what_is_left(self) -> str:
    left = self._times.left(self._left.values())
    time = f', {left.text(self._jobs)}' if self._left else ''
    return f'{len(self._left)} left{time}'

  def _name(self, folder: pathlib.Path) -> str:
    return folder.relative_to(self._workdir).as_posix()
