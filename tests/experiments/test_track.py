"""Rows in TensorBoard and Weights & Biases: all of them, each once."""

import importlib.util
import json
import sys
import types

import pytest
from whole_runs import outcome, small

import fedpm_jax as fp
from fedpm_jax.experiments import track
from fedpm_jax.reports import records

TENSORBOARD = {'track': 'tensorboard'}


def _small(**changes):
  return small(**{'model': 'lenet', 'rounds': 3} | changes)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """What a run comes to that nobody tracks."""
  workdir = tmp_path_factory.mktemp('untracked') / 'run'
  fp.train(_small(), workdir)
  return outcome(workdir)


def _points(workdir):
  """Of every metric, (round, value) as TensorBoard itself reads them."""
  from tensorboard.backend.event_processing import event_accumulator

  reader = event_accumulator.EventAccumulator(str(workdir / 'tensorboard'))
  reader.Reload()
  return {
    name: [(event.step, event.value) for event in reader.Scalars(name)]
    for name in reader.Tags()['scalars']
  }


def _expected(rows):
  """The same from metrics.jsonl; an event has 32 bits."""
  names = {name for row in rows for name in row} - {'round_idx'}
  return {
    name: [
      (row['round_idx'], pytest.approx(row[name], rel=1e-6))
      for row in rows
      if row.get(name) is not None
    ]
    for name in names
  }


def test_tensorboard_reads_every_number_of_every_row(tmp_path):
  fp.train(_small(**TENSORBOARD), tmp_path / 'run')
  rows = records.read_rows(tmp_path / 'run' / 'metrics.jsonl')
  assert len(rows) == 3
  assert _points(tmp_path / 'run') == _expected(rows)


def test_a_run_that_goes_on_has_no_point_twice(whole, tmp_path):
  """The first round was not tracked, and the second one was lost."""
  workdir = tmp_path / 'run'
  with pytest.raises(fp.Stopped):
    fp.train(_small(), workdir, stop=iter([True]).__next__)

  def die():
    raise KeyboardInterrupt

  rarely = TENSORBOARD | {'checkpoint.every': 9}
  with pytest.raises(KeyboardInterrupt):
    fp.train(_small(**rarely), workdir, stop=die)
  assert [t for t, _ in _points(workdir)['train/loss']] == [0, 1]
  fp.train(_small(**TENSORBOARD), workdir)
  assert outcome(workdir) == whole
  rows = records.read_rows(workdir / 'metrics.jsonl')
  assert _points(workdir) == _expected(rows)


def test_a_number_that_is_not_finite_is_left_out():
  taken = []
  tracker = track.Tracker('', None, {})
  tracker._sink = track.Sink(lambda *each: taken.append(each), lambda: None)
  tracker.add({'round_idx': 3, 'train/loss': float('nan'), 'uplink/bytes': 5})
  assert taken == [(3, {'uplink/bytes': 5})]


@pytest.mark.parametrize('place', ['opened', 'used', 'closed'])
def test_a_tracker_that_fails_loses_no_run(
  whole, tmp_path, monkeypatch, caplog, place
):
  def fail(*_):
    raise RuntimeError('the disk is full\nand more')

  def make(workdir, config):
    del workdir, config
    if place == 'opened':
      fail()
    good = lambda *_: None
    return track.Sink(
      fail if place == 'used' else good, fail if place == 'closed' else good
    )

  monkeypatch.setitem(track.TRACKERS, 'tensorboard', ('json', make))
  fp.train(_small(**TENSORBOARD), tmp_path / 'run')
  assert outcome(tmp_path / 'run') == whole
  (warning,) = [r.getMessage() for r in caplog.records]
  assert warning == (
    "config.track = 'tensorboard' failed (RuntimeError: the disk is full). The"
    ' run goes on without it; metrics.jsonl has all rows.'
  )


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    (
      'tensorbord',
      r"one of \['tensorboard', 'wandb'\], or empty, got 'tensorb",
    ),
    ('wandb', r"needs wandb, .*: pip install 'fedpm_jax\[track\]'"),
    (
      'tensorboard',
      r"needs tensorboardX, .*: pip install 'fedpm_jax\[track\]'",
    ),
  ],
)
def test_what_cannot_be_tracked_is_said_before_data_are_read(
  tmp_path, monkeypatch, name, message
):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
  with pytest.raises(ValueError, match=message):
    fp.train(_small(track=name, **{'data.name': 'absent'}), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_nothing_is_imported_that_was_not_asked_for(tmp_path, monkeypatch):
  for name in ('tensorboardX', 'wandb'):
    monkeypatch.setitem(sys.modules, name, None)  # An import would raise.
  fp.train(_small(rounds=1), tmp_path / 'run')


class Wandb(types.ModuleType):
  """What is used of it; `steps` are those that its server has."""

  def __init__(self, steps=()):
    super().__init__('wandb')
    self.inits, self.steps, self.rows = [], list(steps), []
    self.finished = 0

  def Settings(self, **options):
    return options

  def init(self, **options):
    self.inits.append(options)
    step = max(self.steps, default=-1) + 1
    return types.SimpleNamespace(step=step, log=self.log, finish=self.finish)

  def log(self, row, step):
    self.steps.append(step)
    self.rows.append(row)

  def finish(self):
    self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
  module = Wandb()
  monkeypatch.setitem(sys.modules, 'wandb', module)
  monkeypatch.setattr(importlib.util, 'find_spec', lambda _: object())
  monkeypatch.delenv('WANDB_MODE', raising=False)
  return module


def test_wandb_gets_every_row_once_and_stays_offline(tmp_path, wandb):
  workdir = tmp_path / 'run'
  with pytest.raises(fp.Stopped):
    fp.train(_small(track='wandb'), workdir, stop=iter([True]).__next__)
  fp.train(_small(track='wandb'), workdir)
  assert wandb.steps == [0, 1, 2]
  rows = records.read_rows(workdir / 'metrics.jsonl')
  for row, logged in zip(rows, wandb.rows, strict=True):
    assert logged == {k: v for k, v in row.items() if k != 'round_idx'}
  first, second = wandb.inits
  assert first == second  # The same run, by its id.
  assert first['mode'] == 'offline'
  assert first['config'] == json.loads((workdir / 'config.json').read_text())
  assert wandb.finished == 2


def test_wandb_goes_where_the_user_says(tmp_path, wandb, monkeypatch):
  monkeypatch.setenv('WANDB_MODE', 'online')
  monkeypatch.setenv('WANDB_PROJECT', 'masks')
  fp.train(_small(rounds=1, track='wandb'), tmp_path / 'run')
  (init,) = wandb.inits
  assert (init['mode'], init['project']) == (None, 'masks')
