"""What the starts before have left in a run's folder."""

import contextlib
import hashlib
import pathlib
from typing import Any

from absl import logging

from fedpm_jax.experiments import checkpoint
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.reports import records
from fedpm_jax.reports import summary as summaries
from fedpm_jax.system import files, reading

PICTURES = ('curves.png', 'partition.png')
ENDED = 'ended_early'  # in a summary: after which round, and why


def recorded(path: pathlib.Path) -> list[dict[str, Any]]:
  """What the starts before have recorded; a damaged row is told of.

  It tells how long they took.  The run goes on from the rows of its checkpoint.
  """
  try:
    return records.read_rows(path)
  except reading.FileError as error:
    logging.warning('%s', error)
    return records.good_rows(path)


def result(
  run: Experiment, workdir: pathlib.Path, ended: str | None
) -> dict[str, Any] | None:
  """The summary, if all rounds of just this run are done.

  Args:
    run: set to its last checkpoint.
    workdir: of the run.
    ended: why the run has come to its end before its last round, if it has.

  Raises:
    ValueError: the folder holds another finished run, or one of fewer rounds,
      whose checkpoints somebody has deleted: it would be lost.
  """
  summary = None
  if ended or run.next_round in (0, run.num_rounds):
    summary = finished(workdir)
  if summary is None:
    return None
  over = is_over(summary, files.to_json(run.description))
  if run.next_round:  # A checkpoint has said that it is this run.
    return summary if over else None
  _check_same(run, summary['config'], workdir)
  if not over:
    raise ValueError(
      f'{workdir} holds a finished run of'
      f' {summary["last"]["round_idx"] + 1} rounds and no checkpoint that it can'
      ' go on from. Use a new --workdir.'
    )
  return summary


def is_over(summary: dict[str, Any], config: dict[str, Any]) -> bool:
  """Whether a finished run has no rounds left to do.

  Args:
    summary: of the run.
    config: of this start, as `build.describe` makes it; it decides the same.
  """
  if summary.get(ENDED):  # It goes on where the rule has changed.
    there = summary['config']
    return all(there.get(key) == config[key] for key in ('rounds', 'stopping'))
  return summary['last']['round_idx'] == config['rounds'] - 1


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


def check_rows_are_its_own(run: Experiment, workdir: pathlib.Path) -> None:
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
  others = ('config.json', *PICTURES)
  if not all((workdir / name).is_file() for name in others):
    return None
  return summary
