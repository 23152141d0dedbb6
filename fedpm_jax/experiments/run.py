"""A run that is recorded: files, checkpoints, pictures; how it continues."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import tqdm

from fedpm_jax.data import partition
from fedpm_jax.experiments import checkpoint
from fedpm_jax.experiments.config import Config
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.reports import archive, plots, records
from fedpm_jax.reports import summary as summaries
from fedpm_jax.system import files


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
  **parts: Any,
) -> dict[str, Any]:
  """Runs, or continues, an experiment, and writes all that is known of it.

  Args:
    config: of `fedpm_jax.config`, changed at will.
    workdir: where everything is written; a second call continues there.
    verbose: whether to print progress and tables.
    stop: asked after each round; where it says yes, a checkpoint is written.
    **parts: objects in place of what the configuration names; see `Experiment`.

  Returns:
    The summary, as in `<workdir>/summary.json`.

  Raises:
    ValueError: the configuration makes no sense, or is not the one that the
      folder's checkpoint was written with.
    FloatingPointError: training diverged; the last checkpoint is untouched.
    Stopped: `stop` said so.
  """
  started = time.perf_counter()
  workdir = pathlib.Path(workdir)
  say = print if verbose else lambda *_: None
  run = Experiment(config, **parts)
  with contextlib.closing(
    checkpoint.Checkpoints(workdir / 'checkpoints', keep=config.checkpoint.keep)
  ) as checkpoints:
    restored = checkpoints.restore(run.blank_state(), run.description)
    if restored:
      run.set_state(restored.state, restored.next_round)
    is_over = run.next_round >= run.num_rounds
    if is_over and (workdir / 'summary.json').exists():
      say(f'{workdir} is finished: nothing to do.')
      return files.read_json(workdir / 'summary.json')
    files.write_json(workdir / 'config.json', run.description)
    with contextlib.closing(
      records.Recorder(workdir / 'metrics.jsonl', next_round=run.next_round)
    ) as recorder:
      _train(run, config, workdir, checkpoints, recorder, verbose, stop)
  return _finish(run, recorder.rows, workdir, started, say)


def _train(
  run: Experiment,
  config: Config,
  workdir: pathlib.Path,
  checkpoints: checkpoint.Checkpoints,
  recorder: records.Recorder,
  verbose: bool,
  stop: Callable[[], bool] | None,
) -> None:
  """Runs the rounds that are left, and records each before the next."""
  last = run.num_rounds - 1
  due = lambda t, every: checkpoint.is_due(t, every=every, last=last)
  warm_up = threading.Thread(target=_warm_up, args=(run,))
  # Made first, so that the thread has no part in it.
  _ = run.state
  warm_up.start()
  with _Progress(run.next_round, run.num_rounds, verbose) as progress:
    while run.next_round <= last:
      t = run.next_round
      keep = config.wire.keep_every and due(t, config.wire.keep_every)
      done = run.run_round(keep=bool(keep))
      row = dict(done.metrics)
      if done.kept:
        archive.save(workdir, done.kept)
      del done  # What was kept is large.
      if due(t, config.evaluation.every):
        warm_up.join()
        row |= run.evaluate()
      recorder.append(row)
      progress.show(row)
      stopped = stop is not None and stop()
      if stopped or due(t, config.checkpoint.every):
        checkpoints.save(run.state, run.next_round, run.description)
      if stopped and t < last:
        raise Stopped(run.next_round)


def _warm_up(run: Experiment) -> None:
  """What is needed later, made ready while XLA compiles the first round."""
  run.warm_up()
  plots.warm_up()


def _finish(
  run: Experiment,
  rows: list[dict[str, Any]],
  workdir: pathlib.Path,
  started: float,
  say: Callable[..., None],
) -> dict[str, Any]:
  """Writes the model, the plots and the summary; tells the table."""
  model = run.model()
  model.save(workdir / 'model.fedpm')
  data = run.dataset
  counts = partition.label_counts(
    run.client_examples, data.y_train, data.num_classes
  )
  plots.curves(rows, workdir / 'curves.png', title=workdir.name)
  plots.partition(counts, workdir / 'partition.png', title=workdir.name)
  summary = summaries.summarise(rows, run.description, model)
  summary['time/process_s'] = time.perf_counter() - started
  files.write_json(workdir / 'summary.json', summary)
  say(summaries.table(summary))
  say(summaries.file_list(workdir))
  return summary


class _Progress:
  """A bar on a terminal, ten lines elsewhere, nothing where nobody asked."""

  def __init__(self, done: int, total: int, verbose: bool):
    self._total = total
    self._verbose = verbose
    self._bar = tqdm.tqdm(
      initial=done,
      total=total,
      unit='round',
      disable=None if verbose else True,
    )

  def __enter__(self) -> '_Progress':
    return self

  def __exit__(self, *_: object) -> None:
    self._bar.close()

  def show(self, row: dict[str, Any]) -> None:
    """One more round is done."""
    if not self._verbose:
      return
    text = ' '.join(
      f'{label} {row[name]:.3f}'
      for label, name in (
        ('sampled', 'eval/accuracy_sampled'),
        ('mean', 'eval/accuracy_mean'),
        ('loss', 'train/loss'),
        ('up', 'uplink/bpp_wire'),
        ('down', 'downlink/bpp_wire'),
      )
      if name in row
    )
    self._bar.set_postfix_str(text, refresh=False)
    self._bar.update()
    every = max(1, self._total // 10)
    due = checkpoint.is_due(row['round_idx'], every=every, last=self._total - 1)
    if self._bar.disable and due:
      print(f'round {row["round_idx"] + 1:4d}  {text}', flush=True)
