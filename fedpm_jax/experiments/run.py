"""A run that is recorded: files, checkpoints, pictures; how it continues."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging

from fedpm_jax.data import partition
from fedpm_jax.experiments import (
  checkpoint,
  disk,
  earlier,
  leading,
  observe,
  progress,
  starts,
  stopping,
  track,
)
from fedpm_jax.experiments.config import Config
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.reports import archive, plots, records
from fedpm_jax.reports import summary as summaries
from fedpm_jax.simulation import placement
from fedpm_jax.system import files, lock


def train(
  config: Config,
  workdir: pathlib.Path | str,
  *,
  verbose: bool = False,
  stop: Callable[[], bool] | None = None,
  experiment: Callable[..., Experiment] = Experiment,
  **parts: Any,
) -> dict[str, Any]:
  """Runs, or continues, an experiment, and writes all that is known of it.

  Args:
    config: of `fedpm_jax.config`, changed at will.
    workdir: where everything is written; a second call continues there, and
      `config.rounds` may be more by then.
    verbose: whether to print progress and tables.
    stop: asked after each round; where it says yes, a checkpoint is written.
    experiment: makes it, of the configuration and the parts.
    **parts: objects in place of what the configuration names; see `Experiment`.

  Returns:
    The summary, as in `<workdir>/summary.json`.

  Raises:
    ValueError: the configuration makes no sense, or is not the one that the
      folder's checkpoint was written with; another process writes to the
      folder; its files are damaged beyond repair.
    OSError: something could not be written; the files before it are whole.
    FloatingPointError: training diverged; the last checkpoint is untouched.
    Stopped: `stop` said so.
  """
  started = time.perf_counter()
  workdir = pathlib.Path(workdir)
  _check_name(workdir)
  with progress.Progress(verbose) as bar:
    bar.doing('reading the data and building the network', aloud=True)
    track.check(getattr(config, 'track', ''))
    run = experiment(config, **parts)
    leading.check(run)
    if not run.engine.hosts.leads:
      bar.say(leading.FOLLOWS)
      return leading.follow(run, stop)
    with leading.Leader(run, stop) as leader, lock.locked(workdir):
      summary = _locked(leader, workdir, started, bar)
      leader.end(summary)
      return summary


def _check_name(workdir: pathlib.Path) -> None:
  """ValueError for a folder's name that Orbax does not take."""
  try:
    str(workdir).encode()
  except UnicodeEncodeError as error:
    raise ValueError(
      f'A --workdir must be text in UTF-8, got {str(workdir)!r}.'
    ) from error


def _locked(
  leader: leading.Leader,
  workdir: pathlib.Path,
  started: float,
  bar: progress.Progress,
) -> dict[str, Any]:
  """Runs, or continues; nobody else writes to the folder.

  Args:
    leader: of the run, before its first round.
    workdir: of the run.
    started: when the program started, by `time.perf_counter`.
    bar: is told how far it is.
  """
  run = leader.run
  for folder in ('', checkpoint.FOLDER, archive.FOLDER):
    files.remove_temporary(workdir / folder)
  recorded = earlier.recorded(workdir / 'metrics.jsonl')
  rows = _continue(run, workdir)
  seconds_before = max(
    (row.get('time/total_s') or 0 for row in [*recorded, *rows]), default=0
  )
  clock = lambda: seconds_before + time.perf_counter() - started
  ended = stopping.reason(rows, run.config)
  if summary := earlier.result(run, workdir, ended):
    bar.say(f'{workdir} is finished.')
    bar.say(_table(summary))
    return summary
  if ended or run.next_round == run.num_rounds:
    clock = lambda: seconds_before  # Its files are written anew, no more.
  else:
    if run.next_round:
      bar.say(f'{workdir} continues at round {run.next_round + 1}.')
    else:
      if recorded:
        earlier.check_rows_are_its_own(run, workdir)
        bar.say(f'{workdir} has no checkpoint yet: it starts again at round 1.')
      files.remove(workdir / archive.FOLDER)  # They may be of another run.
    # It is of fewer rounds, if it is there.
    (workdir / 'summary.json').unlink(missing_ok=True)
    starts.note(workdir, run.next_round)
    if run.simulates:
      bar.say(_placement(run))
    if run.unusual_parameters:
      bar.say(run.unusual_parameters)
  files.write_json(workdir / 'config.json', run.description)
  with contextlib.closing(
    records.Recorder(workdir / 'metrics.jsonl', rows)
  ) as recorder:
    ended = ended or _train(leader, workdir, recorder, clock, bar)
  return _finish(run, recorder.rows, ended, workdir, clock, bar)


def _continue(run: Experiment, workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Sets the run to its last checkpoint, if there is one; its rows."""
  restored = checkpoint.restore(workdir, run.like_state(), run.description)
  if restored is None:
    return []
  if restored.next_round > run.num_rounds:
    raise ValueError(
      f'config.rounds = {run.num_rounds}, but {workdir} holds'
      f' {restored.next_round} rounds: rounds can only grow. Use a new'
      ' --workdir.'
    )
  run.set_state(restored.state, restored.next_round)
  return restored.rows


def _train(
  leader: leading.Leader,
  workdir: pathlib.Path,
  recorder: records.Recorder,
  clock: Callable[[], float],
  bar: progress.Progress,
) -> str | None:
  """Runs the rounds that are left, and records each before the next.

  Returns:
    Why it has ended before the last round, if it has.
  """
  run, ended = leader.run, None
  config, last = run.config, run.num_rounds - 1
  if run.next_round > last:
    return None
  due = lambda t, every: checkpoint.is_due(t, every=every, last=last)
  kept = disk.kept(run)
  disk.make_room(workdir, kept)
  for line in _plans(run, kept):
    bar.say(line)
  bar.rounds(run.next_round, run.num_rounds)
  with (
    contextlib.closing(
      checkpoint.Writer(
        workdir, keep=config.checkpoint.keep, next_round=run.next_round
      )
    ) as checkpoints,
    contextlib.closing(
      track.Tracker(config.track, workdir, run.description, recorder.rows)
    ) as tracker,
    leading.warming_up(run.warm_up, plots.warm_up) as warm_up,
  ):
    leader.start()
    first, _ = run.next_round, run.state  # Made before the thread is there.
    observer = observe.Observer(run, workdir)
    warm_up.start()
    while run.next_round <= last and not ended:
      t = run.next_round
      compiles = ', compiling and then training' if t == first else ''
      bar.doing(f'round {t + 1} of {last + 1}{compiles}', aloud=t == first)
      done = leader.run_round(keep=t in kept.rounds)
      row = dict(done.metrics)
      if done.kept:
        archive.save(workdir, done.kept)
      observer.look(done.kept)
      del done  # What was kept is large.
      if due(t, run.evaluate_every):
        bar.doing(f'evaluation after round {t + 1}')
        warm_up.join()
        row |= leader.evaluate()
      row |= {'time/total_s': clock()}
      for take in (recorder.append, tracker.add, bar.show):
        take(row)
      ended = stopping.reason(recorder.rows, config)
      checkpoints.check()
      stopped = leader.is_asked_to_stop()
      if stopped or ended or due(t, config.checkpoint.every):
        checkpoints.save(
          run.state, run.next_round, run.description, recorder.mark
        )
      if stopped and t < last and not ended:
        checkpoints.wait()
        raise leading.Stopped(run.next_round)
  return ended


def _plans(run: Experiment, kept: disk.Kept) -> Iterator[str]:
  """What a reader of the log should know before the first round."""
  every = run.evaluate_every
  if not run.config.evaluation.every:
    often = 'each round' if every == 1 else f'each {every} rounds and the last'
    if every >= run.num_rounds > 1:
      often = 'the last round only'
    yield (
      f'The test set is evaluated after {often}, which takes a fifth of the time'
      ' at most (config.evaluation.every).'
    )
  yield disk.told(run, kept)


def _finish(
  run: Experiment,
  rows: list[dict[str, Any]],
  ended: str | None,
  workdir: pathlib.Path,
  clock: Callable[[], float],
  bar: progress.Progress,
) -> dict[str, Any]:
  """Writes the model, the pictures and the summary; tells the table."""
  bar.doing('writing the model and the pictures')
  model = run.model()
  model.save(workdir / 'model.fedpm')
  data = run.dataset
  evaluated_on = records.evaluated_on(run.description)
  counts = partition.label_counts(
    run.client_examples, data.y_train, data.num_classes
  )
  for name, draw in zip(
    earlier.PICTURES,
    (
      lambda path: plots.curves(
        rows, path, title=workdir.name, evaluated_on=evaluated_on
      ),
      lambda path: plots.partition(counts, path, title=workdir.name),
    ),
    strict=True,
  ):
    try:
      draw(workdir / name)
    except Exception as error:  # No picture is worth a run.
      logging.warning('%s could not be drawn: %s', workdir / name, error)
  summary = summaries.summarise(rows, run.description, model) | {
    'starts': starts.read(workdir),
    'time/total_s': clock(),
  }
  if ended:
    summary[earlier.ENDED] = (
      f'after round {len(rows)} of {run.num_rounds}: {ended}'
    )
  files.write_json(workdir / 'summary.json', summary)
  bar.say(_table(summary))
  bar.say(summaries.file_list(workdir))
  return summary


def _placement(run: Experiment) -> str:
  """A line on where the clients of a round train."""
  config, engine = run.config, run.engine
  return placement.told(
    engine.mesh,
    config.execution.chunk,
    config.clients_per_round,
    engine.hosts.count,
    brings_examples=engine.trainer.brings_examples,
  )


def _table(summary: dict[str, Any]) -> str:
  """The summary as a table, and why the run is shorter than it might be."""
  table = summaries.table(summary)
  if summary.get(earlier.ENDED):
    table += f'\nIt ended {summary[earlier.ENDED]}.'
  return table
