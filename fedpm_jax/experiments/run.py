"""A run that is recorded: files, checkpoints, pictures, and how it continues."""

import contextlib
import pathlib
import signal
import sys
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from fedpm_jax.data import partition, sources
from fedpm_jax.experiments import checkpoint
from fedpm_jax.experiments import experiment as experiments
from fedpm_jax.prng import keys
from fedpm_jax.protocol import model_file
from fedpm_jax.reports import archive, plots, records
from fedpm_jax.reports import summary as summaries
from fedpm_jax.system import files, machine


def train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path | str,
  *,
  dataset: sources.Dataset | None = None,
) -> dict[str, Any]:
  """Runs, or continues, an experiment.

  Args:
    config: see `fedpm_jax.config.default`.
    workdir: where everything is written; a second call continues there.
    dataset: instead of the one that `config.data` names.

  Returns:
    The summary, as in `<workdir>/summary.json`.

  Raises:
    ValueError: the configuration makes no sense, or is not the one that the
      folder's checkpoint was written with.
    FloatingPointError: training diverged; the last checkpoint is untouched.
  """
  started = time.perf_counter()
  workdir = pathlib.Path(workdir)
  machine.use_all_cores()
  experiment = experiments.build(config, dataset)
  plain, last = experiment.config, config.rounds - 1
  blank = jax.tree.map(jnp.zeros_like, jax.eval_shape(experiment.engine.init))
  warm_up = threading.Thread(target=_warm_up, args=(experiment, blank))
  checkpoints = checkpoint.Checkpoints(
    workdir / 'checkpoints', keep=config.checkpoint.keep
  )
  restored = checkpoints.restore(blank, plain)
  next_round = restored.next_round if restored else 0
  if next_round > last and (workdir / 'summary.json').exists():
    checkpoints.close()
    print(f'{workdir} is finished: nothing to do.')
    return files.read_json(workdir / 'summary.json')
  state = restored.state if restored else experiment.engine.init()
  files.write_json(workdir / 'config.json', plain)
  recorder = records.Recorder(workdir / 'metrics.jsonl', next_round=next_round)
  warm_up.start()
  with (
    contextlib.closing(checkpoints),
    contextlib.closing(recorder),
    _Terminated() as terminated,
    _Progress(next_round, config.rounds) as progress,
  ):
    foreseen = None
    for round_idx in range(next_round, config.rounds):
      keep = config.wire.keep_every and checkpoint.is_due(
        round_idx, every=config.wire.keep_every, last=last
      )
      done = experiment.engine.run(
        state,
        experiments.cohort(experiment, round_idx),
        round_idx,
        foreseen=foreseen,
        keep=bool(keep),
      )
      state, row, foreseen, kept = done
      if kept:
        archive.save(workdir, kept)
      if checkpoint.is_due(round_idx, every=config.evaluation.every, last=last):
        warm_up.join()
        before = time.perf_counter()
        row |= experiment.evaluate(state.server, round_idx)
        row['time/eval_s'] = time.perf_counter() - before
      recorder.append(row)
      progress.show(row)
      if terminated or checkpoint.is_due(
        round_idx, every=config.checkpoint.every, last=last
      ):
        checkpoints.save(state, round_idx + 1, plain)
      if terminated:
        break
  if terminated:
    print(
      f'Stopped by SIGTERM after round {round_idx}; the same command'
      ' continues from there.',
      file=sys.stderr,
    )
    sys.exit(128 + signal.SIGTERM)
  return _finish(experiment, state, recorder.rows, workdir, started)


def _warm_up(experiment, blank):
  """What is needed later, made ready while XLA compiles the first round."""
  experiment.evaluate(blank.server, 0)
  model_file.fingerprint(experiment.spec)
  _model(experiment, blank)
  plots.pyplot()


def _model(experiment, state):
  """The final mask, or weights, of a state."""
  key = keys.derive(experiment.spec.seed, keys.Purpose.FINAL)
  return experiment.engine.method.algorithm.model(state.server, key)


def _finish(experiment, state, rows, workdir, started):
  """Writes the model, the plots and the summary; prints the table."""
  model = model_file.export(
    workdir / 'model.fedpm',
    experiment.spec,
    np.asarray(_model(experiment, state)),
  )
  counts = partition.label_counts(
    experiment.parts,
    experiment.dataset.y_train,
    experiment.dataset.num_classes,
  )
  title = workdir.name
  plots.curves(rows, workdir / 'curves.png', title=title)
  plots.partition(counts, workdir / 'partition.png', title=title)
  summary = summaries.summarise(rows, experiment.config, model)
  summary['time/process_s'] = time.perf_counter() - started
  files.write_json(workdir / 'summary.json', summary)
  print(summaries.table(summary))
  print(summaries.file_list(workdir))
  return summary


class _Terminated:
  """True once SIGTERM has come; the round at hand is finished first."""

  def __init__(self):
    self._received = False

  def __bool__(self):
    return self._received

  def __enter__(self):
    def receive(*_):
      self._received = True

    try:
      self._previous = signal.signal(signal.SIGTERM, receive)
    except ValueError:  # Not in the main thread: someone else's business.
      self._previous = None
    return self

  def __exit__(self, *_):
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)


class _Progress:
  """A bar on a terminal, ten lines elsewhere."""

  def __init__(self, done: int, total: int):
    self._total = total
    self._bar = tqdm.tqdm(initial=done, total=total, unit='round', disable=None)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._bar.close()

  def show(self, row: dict[str, Any]) -> None:
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
      print(f'round {row["round_idx"]:4d}  {text}', flush=True)
