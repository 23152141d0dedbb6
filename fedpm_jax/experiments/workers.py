"""Runs in processes side by side, each on its own share of the cores.

What one run does, its death included, is an outcome and stops no other run.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import jax
from absl import logging

from fedpm_jax.experiments import memory
from fedpm_jax.experiments.leading import Stopped
from fedpm_jax.system import files, lock, machine, text

_DIED = 'The process died, by a signal or for want of memory.'


class Task(NamedTuple):
  """A run that is to be done.

  Attributes:
    folder: of the run.
    config: of the run.
    parts: () -> objects of one's own, see `sweeps.Run`; or None.
  """

  folder: pathlib.Path
  config: Any
  parts: Callable[[], dict[str, Any]] | None = None


class _AskedToStop:
  """Whether SIGTERM has come: a run then writes a checkpoint and stops.

  The signal is caught from the first time on that a run asks.  Until then it
  ends the process, and nothing is lost by that.
  """

  def __init__(self):
    self._came = threading.Event()
    self._is_caught = False

  def reset(self) -> None:
    """A signal was for the run before."""
    self._came.clear()

  def __call__(self) -> bool:
    if not self._is_caught:
      signal.signal(signal.SIGTERM, lambda *_: self._came.set())
      self._is_caught = True
    return self._came.is_set()


class _Worker:
  """What this process knows of itself, if it is a worker.

  Attributes:
    stop: asked by runs after each round; None in the parent.
  """

  stop: _AskedToStop | None = None


_worker = _Worker()


class Outcome(NamedTuple):
  """What became of a run that was started.

  Attributes:
    folder: of the run.
    seconds: that it took here.
    accuracy: of the mean network after the last round; None if it failed.
    error: why it failed, in a line, or None.
  """

  folder: pathlib.Path
  seconds: float
  accuracy: float | None
  error: str | None


def run_one(
  task: Task,
  function: Callable[..., dict[str, Any]],
  stop: Callable[[], bool] | None = None,
) -> Outcome:
  """Runs, or continues, one run; what it prints goes to `log.txt`.

  A failure is an outcome, its traceback in `error.txt`, and no exception.

  Args:
    task: the run.
    function: `run.train`, or another `(config, folder, **options) -> summary`.
    stop: asked by the run after each round; a worker asks for SIGTERM.

  Raises:
    Stopped: `stop` said so; a worker's is an outcome.
  """
  if _worker.stop:
    _worker.stop.reset()
  started, folder = time.perf_counter(), task.folder
  folder.mkdir(parents=True, exist_ok=True)
  accuracy = error = None
  with (
    open(
      folder / 'log.txt',
      'a',
      buffering=1,
      encoding='utf-8',
      errors='backslashreplace',
    ) as log,
    contextlib.redirect_stdout(log),
    contextlib.redirect_stderr(log),
  ):
    try:
      parts = task.parts() if task.parts else {}
      summary = function(
        task.config, folder, verbose=True, stop=_worker.stop or stop, **parts
      )
      accuracy = summary['last']['eval/accuracy_mean']
    except Stopped as stopped:
      # It is stopped and no longer failed, whatever an earlier start ended with.
      (folder / 'error.txt').unlink(missing_ok=True)
      if stop:
        raise
      error = str(stopped)
    except lock.LockedError as locked:  # The folder is that of another process.
      error = str(locked)
    except Exception as exception:  # whatever it is, the others go on
      error = _note(folder, exception)
    else:
      (folder / 'error.txt').unlink(missing_ok=True)
    finally:
      jax.clear_caches()  # the next run's programs are others
  return Outcome(folder, time.perf_counter() - started, accuracy, error)


def _note(folder: pathlib.Path, exception: BaseException) -> str:
  """Writes error.txt: the reason in a line, which it returns, and the place."""
  if isinstance(exception, BrokenProcessPool):
    reason, place = _DIED, []
  else:
    said = str(exception).partition('\n')[0]
    if memory.EXHAUSTED in said:
      said = f'{said} {memory.told(exception)}'
    message = text.printable(said)
    reason = f'{type(exception).__name__}: {message}'
    place = traceback.format_exception(exception)
  files.write_bytes(
    folder / 'error.txt',
    '\n'.join([reason, '', *place]).encode(errors='backslashreplace'),
  )
  return reason


def one_by_one(
  tasks: list[Task],
  function: Callable[..., dict[str, Any]],
  stop: Callable[[], bool] | None = None,
  *,
  begun: Callable[[pathlib.Path], None],
) -> Generator[Outcome, None, None]:
  """Runs tasks in this process; see `side_by_side`, and `run_one` for `stop`."""
  for task in tasks:
    begun(task.folder)
    yield run_one(task, function, stop)


def side_by_side(
  tasks: list[Task],
  function: Callable[..., dict[str, Any]],
  jobs: int,
  *,
  begun: Callable[[pathlib.Path], None],
) -> Generator[Outcome, None, None]:
  """Runs tasks, `jobs` at a time.

  A pool of one process for every job: a death is the death of one run only.

  Args:
    tasks: the runs.
    function: as of `run_one`; importable by its name.
    jobs: at least 1.
    begun: called with the folder of each run that begins.

  Yields:
    The outcomes, as they come.
  """
  pools = [_pool(job, jobs) for job in range(jobs)]
  idle, waiting = list(range(jobs)), collections.deque(tasks)
  running = {}
  try:
    while waiting or running:
      while waiting and idle:
        job, task = idle.pop(), waiting.popleft()
        begun(task.folder)
        try:
          future = pools[job].submit(run_one, task, function)
        except BrokenProcessPool:  # with its last run, or after it
          pools[job] = _pool(job, jobs)
          future = pools[job].submit(run_one, task, function)
        running[future] = job, task.folder, time.perf_counter()
      done, _ = concurrent.futures.wait(
        running, return_when=concurrent.futures.FIRST_COMPLETED
      )
      for future in done:
        job, folder, started = running.pop(future)
        idle.append(job)
        error = future.exception()
        if error is None:
          yield future.result()
        else:
          seconds = time.perf_counter() - started
          yield Outcome(folder, seconds, None, _note(folder, error))
  except BaseException:  # Ctrl-C: SIGTERM lets a run write a checkpoint first
    print('Stopping: runs finish their round first.', file=sys.stderr)
    for process in multiprocessing.active_children():
      process.terminate()
    raise
  finally:
    for pool in pools:
      pool.shutdown()


def _pool(job, jobs) -> concurrent.futures.ProcessPoolExecutor:
  return concurrent.futures.ProcessPoolExecutor(
    max_workers=1,
    mp_context=multiprocessing.get_context('spawn'),
    initializer=_start_worker,
    initargs=(job, jobs),
  )


def share(cores: list[int], job: int, jobs: int) -> list[int]:
  """The cores of one of several processes; one core at least."""
  first, end = (len(cores) * k // jobs for k in (job, job + 1))
  return cores[first:end] or [cores[job % len(cores)]]


def _start_worker(job: int, jobs: int) -> None:
  """Sets a process's cores, cache and signals, before it uses JAX."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sends SIGTERM
  _worker.stop = _AskedToStop()
  threading.Thread(target=_die_with_parent, daemon=True).start()
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(0)), job, jobs))
  if jobs > 1:  # else the first process takes most of a GPU's memory
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  logging.set_verbosity(logging.WARNING)
  machine.keep_compiled_programs()


def _die_with_parent() -> None:
  """Exits with the parent, so that no orphan writes into a restarted sweep."""
  parent = multiprocessing.parent_process()
  if parent:
    parent.join()
    os._exit(1)
