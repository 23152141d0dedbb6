"""The rows of a run in TensorBoard or Weights & Biases, too: `config.track`.

metrics.jsonl is the record; a tracker is a copy of its numbers.  Where it fails,
a warning says so, and the run goes on without it.
"""

import importlib
import importlib.util
import os
import pathlib
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from absl import logging

from fedpm_jax.system import files

_WANDB_ID = 'wandb_id.txt'


class Sink(NamedTuple):
  """Where rows go.

  Attributes:
    add: (round_idx, numbers by name) -> None.
    close: () -> None.
  """

  add: Callable[[int, dict[str, float]], None]
  close: Callable[[], object]


def _load(name: str) -> Any:
  """A module that may be missing, where nobody tracks anything."""
  return importlib.import_module(name)


def _tensorboard(workdir: pathlib.Path, config: dict[str, Any]) -> Sink:
  """Events in `<workdir>/tensorboard`, one file for all starts of the run.

  Not by tensorboardX's SummaryWriter: it writes in a thread, and waits for ever
  for one that has died of a full disk.
  """
  del config
  files_of_events = _load('tensorboardX.event_file_writer')
  events = _load('tensorboardX.proto.event_pb2')
  summaries = _load('tensorboardX.proto.summary_pb2')
  folder = workdir / 'tensorboard'
  files.remove(folder)  # The rows before are written anew.
  folder.mkdir(parents=True)
  writer = files_of_events.EventsWriter(str(folder / 'events'))

  def add(round_idx: int, numbers: dict[str, float]) -> None:
    values = [
      summaries.Summary.Value(tag=name, simple_value=value)
      for name, value in numbers.items()
    ]
    summary = summaries.Summary(value=values)
    writer.write_event(
      events.Event(wall_time=time.time(), step=round_idx, summary=summary)
    )
    writer.flush()

  return Sink(add, writer.close)


def _wandb(workdir: pathlib.Path, config: dict[str, Any]) -> Sink:
  """A run of Weights & Biases, the same one after a second start.

  Without WANDB_MODE it stays on this machine, in `<workdir>/wandb`, for `wandb
  sync`; nothing is asked for and nothing is sent.
  """
  wandb = _load('wandb')
  path = workdir / _WANDB_ID
  if not path.exists():
    files.write_bytes(path, uuid.uuid4().hex[:12].encode())
  mode: Any = None if 'WANDB_MODE' in os.environ else 'offline'
  for old in (workdir / 'wandb').glob('offline-run-*'):
    files.remove(old)  # The rows before are written anew.
  run = wandb.init(
    project=os.environ.get('WANDB_PROJECT', 'fedpm_jax'),
    name=workdir.name,
    id=path.read_text(encoding='ascii'),
    resume='allow',
    mode=mode,
    dir=str(workdir),
    config=config,
    settings=wandb.Settings(console='off', silent=True),
  )
  first = run.step  # Rounds before are there already.

  def add(round_idx: int, numbers: dict[str, float]) -> None:
    if round_idx >= first:
      run.log(numbers, step=round_idx)

  return Sink(add, run.finish)


# Each with the module that it needs.
TRACKERS = {
  'tensorboard': ('tensorboardX', _tensorboard),
  'wandb': ('wandb', _wandb),
}


def check(name: str) -> None:
  """Raises ValueError unless rows can go there; '' is nowhere."""
  if not name:
    return
  if name not in TRACKERS:
    raise ValueError(
      f'config.track must be one of {sorted(TRACKERS)}, or empty, got {name!r}.'
    )
  module, _ = TRACKERS[name]
  if importlib.util.find_spec(module) is None:
    raise ValueError(
      f'config.track = {name!r} needs {module}, which is not installed:'
      " pip install 'fedpm_jax[track]'."
    )


class Tracker:
  """Takes rows, and never fails."""

  def __init__(
    self,
    name: str,
    workdir: pathlib.Path,
    config: dict[str, Any],
    rows: Iterable[dict[str, Any]] = (),
  ):
    """Opens it, and hands over the rows of the rounds before.

    Args:
      name: of `TRACKERS`; '' takes rows and does nothing.
      workdir: of the run.
      config: as in config.json.
      rows: of metrics.jsonl.
    """
    self._name = name
    self._sink: Sink | None = None
    if name:
      _, make = TRACKERS[name]
      self._try(lambda: self._open(make(workdir, config)))
    for row in rows:
      self.add(row)

  def add(self, row: dict[str, Any]) -> None:
    """One more row: all of it that is a number."""
    if self._sink is None:
      return
    sink, numbers = self._sink, files.to_json(row)
    round_idx = numbers.pop('round_idx')
    numbers = {k: v for k, v in numbers.items() if v is not None}
    self._try(lambda: sink.add(round_idx, numbers))

  def close(self) -> None:
    """Nothing is taken any more."""
    if self._sink is not None:
      self._try(self._sink.close)
      self._sink = None

  def _open(self, sink: Sink) -> None:
    self._sink = sink

  def _try(self, function: Callable[[], object]) -> None:
    try:
      function()
    except Exception as error:  # No copy of the rows is worth a run.
      self._sink = None
      logging.warning(
        'config.track = %r failed (%s: %s). The run goes on without it;'
        ' metrics.jsonl has all rows.',
        self._name,
        type(error).__name__,
        str(error).partition('\n')[0],
      )
