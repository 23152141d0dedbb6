"""A run that is recorded: files, checkpoints, pictures; how it continues."""

import contextlib
import hashlib
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

from absl import logging

from fedpm_jax.data import partition
from fedpm_jax.experiments import checkpoint, observe, progress, starts
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.config import Config
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.reports import archive, plots, records
from fedpm_jax.reports import summary as summaries
from fedpm_jax.system import files, lock, reading

_PICTURES = ('curves.png', 'partition.png')


class Stopped(Exception):
  """The run was asked to stop, and can go on from its checkpoint."""

  def __init__(self, rounds_done: int):
    """After how many rounds."""
    super().__init__(rounds_done)
    self.rounds_done = rounds_done

  def __str__(self) -> str:
    return (
      f'Stopped after round {self.rounds_done}; the same command continues from'
      ' there.'
    )


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
  say = progress.say if verbose else lambda _: None
  try:
    str(workdir).encode()
  except UnicodeEncodeError as error:  # Orbax takes no other names.
    raise ValueError(
      f'A --workdir must be text in UTF-8, got {str(workdir)!r}.'
    ) from error
  run = experiment(config, **parts)
  with lock.locked(workdir):
    for folder in ('', checkpoint.FOLDER, archive.FOLDER):
      files.remove_temporary(workdir / folder)
    recorded = _recorded(workdir / 'metrics.jsonl')
    rows = _continue(run, workdir)
    seconds_before = max(
      (row.get('time/total_s') or 0 for row in [*recorded, *rows]), default=0
    )
    clock = lambda: seconds_before + time.perf_counter() - started
    if summary := _result(run, workdir):
      say(f'{workdir} is finished.')
      say(summaries.table(summary))
      return summary
    if run.next_round == run.num_rounds:
      clock = lambda: seconds_before  # Its files are written anew, no more.
    else:
      if run.next_round:
        say(f'{workdir} continues at round {run.next_round + 1}.')
      else:
        if recorded:
          _check_rows_are_its_own(run, workdir)
          say(f'{workdir} has no checkpoint yet: it starts again at round 1.')
        files.remove(workdir / archive.FOLDER)  # They may be of another run.
      # It is of fewer rounds, if it is there.
      (workdir / 'summary.json').unlink(missing_ok=True)
      starts.note(workdir, run.next_round)
      if run.unusual_parameters:
        say(run.unusual_parameters)
    files.write_json(workdir / 'config.json', run.description)
    with contextlib.closing(
      records.Recorder(workdir / 'metrics.jsonl', rows)
    ) as recorder:
      _train(run, workdir, recorder, clock, verbose, stop)
    return _finish(run, recorder.rows, workdir, clock, say)


def _recorded(path: pathlib.Path) -> list[dict[str, Any]]:
  """What the starts before have recorded; a damaged row is told of.

  It tells how long they took.  The run goes on from the rows of its checkpoint.
  """
  try:
    return records.read_rows(path)
  except reading.FileError as error:
    logging.warning('%s', error)
    return records.good_rows(path)


def _continue(run: Experiment, workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Sets the run to its last checkpoint, if there is one; its rows."""
  restored = checkpoint.restore(workdir, run.blank_state(), run.description)
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


def _result(run: Experiment, workdir: pathlib.Path) -> dict[str, Any] | None:
  """The summary, if all rounds of just this run are done.

  Raises:
    ValueError: the folder holds another finished run, or one of fewer rounds,
      whose checkpoints somebody has deleted: it would be lost.
  """
  summary = None
  if run.next_round in (0, run.num_rounds):
    summary = finished(workdir)
  if summary is None:
    return None
  is_over = summary['last']['round_idx'] == run.num_rounds - 1
  if run.next_round:  # A checkpoint has said that it is this run.
    return summary if is_over else None
  _check_same(run, summary['config'], workdir)
  if not is_over:
    raise ValueError(
      f'{workdir} holds a finished run of'
      f' {summary["last"]["round_idx"] + 1} rounds and no checkpoint that it can'
      ' go on from. Use a new --workdir.'
    )
  return summary


def _check_same(
  run: Experiment, there: dict[str, Any], workdir: pathlib.Path
) -> None:
  """ValueError where a folder without checkpoints holds another run."""
  changes = checkpoint.differences(
    configs.deciding(there),
    configs.deciding(files.to_json(run.description)),
  )
  if changes:
    raise ValueError(
      f'{workdir} holds a run without a checkpoint, with another config:'
      f' {"; ".join(changes)}. Use a new --workdir, or delete this one.'
    )


def _check_rows_are_its_own(run: Experiment, workdir: pathlib.Path) -> None:
  """ValueError where rows of another run would be replaced."""
  with contextlib.suppress(FileNotFoundError, reading.FileError):
    there = reading.read_json(workdir / 'config.json', dict)
    _check_same(run, there, workdir)


def finished(workdir: pathlib.Path) -> dict[str, Any] | None:
  """The summary of a run, if it has come to its end and its files are whole.

  None where one is missing or damaged, which is told of: the same command makes
  all of them again, from the last checkpoint and the rows.
  """
  try:
    summary = summaries.read(workdir / 'summary.json')
    rows = records.read_rows(workdir / 'metrics.jsonl')
    summaries.check_whole(workdir, rows, summary)
    model = (workdir / 'model.fedpm').read_bytes()
  except FileNotFoundError:
    return None
  except (reading.FileError, OSError) as error:
    logging.warning('%s This start makes it again.', error)
    return None
  if hashlib.sha256(model).hexdigest() != summary['model'].get('sha256'):
    logging.warning('%s/model.fedpm is damaged. It is written anew.', workdir)
    return None
  others = ('config.json', *_PICTURES)
  if not all((workdir / name).is_file() for name in others):
    return None
  return summary


def _train(
  run: Experiment,
  workdir: pathlib.Path,
  recorder: records.Recorder,
  clock: Callable[[], float],
  verbose: bool,
  stop: Callable[[], bool] | None,
) -> None:
  """Runs the rounds that are left, and records each before the next."""
  config, last = run.config, run.num_rounds - 1
  if run.next_round > last:
    return
  due = lambda t, every: checkpoint.is_due(t, every=every, last=last)
  warm_up = threading.Thread(target=_warm_up, args=(run,))
  with (
    contextlib.closing(
      checkpoint.Writer(
        workdir, keep=config.checkpoint.keep, next_round=run.next_round
      )
    ) as checkpoints,
    progress.Progress(run.next_round, run.num_rounds, verbose) as bar,
  ):
    _ = run.state  # Made first, so that the thread has no part in it.
    observer = observe.Observer(run, workdir)
    warm_up.start()
    while run.next_round <= last:
      t = run.next_round
      keep = config.wire.keep_every and due(t, config.wire.keep_every)
      done = run.run_round(keep=bool(keep))
      row = dict(done.metrics)
      if done.kept:
        archive.save(workdir, done.kept)
      observer.look(done.kept)
      del done  # What was kept is large.
      if due(t, run.evaluate_every):
        warm_up.join()
        row |= run.evaluate()
      recorder.append(row | {'time/total_s': clock()})
      bar.show(row)
      checkpoints.check()
      stopped = stop is not None and stop()
      if stopped or due(t, config.checkpoint.every):
        checkpoints.save(
          run.state, run.next_round, run.description, recorder.mark
        )
      if stopped and t < last:
        checkpoints.wait()
        raise Stopped(run.next_round)


def _warm_up(run: Experiment) -> None:
  """What is needed later, made ready while XLA compiles the first round."""
  # Whatever fails here fails again, and is told of, where it is needed.
  with contextlib.suppress(Exception):
    run.warm_up()
    plots.warm_up()


def _finish(
  run: Experiment,
  rows: list[dict[str, Any]],
  workdir: pathlib.Path,
  clock: Callable[[], float],
  say: Callable[[str], None],
) -> dict[str, Any]:
  """Writes the model, the pictures and the summary; tells the table."""
  model = run.model()
  model.save(workdir / 'model.fedpm')
  data = run.dataset
  evaluated_on = records.evaluated_on(run.description)
  counts = partition.label_counts(
    run.client_examples, data.y_train, data.num_classes
  )
  for name, draw in zip(
    _PICTURES,
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
  files.write_json(workdir / 'summary.json', summary)
  say(summaries.table(summary))
  say(summaries.file_list(workdir))
  return summary
