"""What a person sees of a run: never silent for long, and never in its way."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest
from whole_runs import ROOT

from fedpm_jax.experiments import progress


class Clock:
  """A clock that a test sets."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def _row(t, **more):
  return {'round_idx': t, 'train/loss': 1.0 / (t + 1), **more}


def _log(capsys, *, rounds, seconds, done=0):
  """The lines of a log where every round takes so many seconds."""
  clock = Clock()
  with progress.Progress(True, clock=clock) as bar:
    bar.rounds(done, rounds)
    for t in range(done, rounds):
      clock.now += seconds
      bar.show(_row(t))
  return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
  ('rounds', 'seconds', 'shown'),
  [
    (30, 2, [1, 30]),  # the whole run takes a minute
    (30, 10, [1, 7, 13, 19, 25, 30]),  # a line a minute
    (4, 300, [1, 2, 3, 4]),  # a line a round
    (1, 5, [1]),
  ],
)
def test_a_log_has_a_line_a_round_or_a_minute(capsys, rounds, seconds, shown):
  lines = _log(capsys, rounds=rounds, seconds=seconds)
  found = [re.match(r'round (\d+) of (\d+)  loss', line) for line in lines]
  assert [int(match[1]) for match in found] == shown
  assert {int(match[2]) for match in found} == {rounds}


@pytest.mark.parametrize(
  ('rounds', 'seconds', 'left'),
  [(10, 60, '8 min left'), (3, 40, '40 s left'), (100, 300, '8 h 10 min left')],
)
def test_the_time_left_is_that_of_rounds_which_did_not_compile(
  capsys, rounds, seconds, left
):
  clock = Clock()
  with progress.Progress(True, minute=0, clock=clock) as bar:
    bar.rounds(0, rounds)
    for t in range(2):
      clock.now += seconds + 1000 * (t == 0)
      bar.show(_row(t))
  first, second = capsys.readouterr().out.splitlines()
  assert 'left' not in first  # Nobody knows.
  assert second.endswith(left)


def test_an_accuracy_is_shown_until_there_is_a_newer_one(capsys):
  with progress.Progress(True, minute=0) as bar:
    bar.rounds(0, 3)
    bar.show(_row(0, **{'eval/accuracy_mean': 0.5}))
    bar.show(_row(1))
    bar.show(_row(2, **{'eval/accuracy_mean': 0.75}))
  lines = capsys.readouterr().out.splitlines()
  assert 'mean 0.500  loss' in lines[0]
  assert 'mean 0.500 (round 1)  loss' in lines[1]
  assert 'mean 0.750  loss' in lines[2]


def test_a_slow_round_is_told_of_while_it_goes_on(capsys):
  with progress.Progress(True, minute=0.2) as bar:
    bar.doing('reading the data', aloud=True)
    time.sleep(0.7)
    bar.rounds(0, 2)
    bar.doing('round 1 of 2')
    time.sleep(0.7)
  first, *others = capsys.readouterr().out.splitlines()
  assert first == 'Reading the data.'
  assert others[0].startswith('... reading the data, for ')
  assert others[-1].startswith('... round 1 of 2, for ')
  assert len(others) <= 8


def test_who_did_not_ask_is_told_nothing(capsys):
  with progress.Progress(False, minute=0) as bar:
    bar.doing('reading the data', aloud=True)
    bar.say('hello')
    bar.rounds(0, 1)
    bar.show(_row(0))
  assert capsys.readouterr() == ('', '')


@pytest.mark.parametrize('name', ['stdout', 'stderr'])
def test_a_terminal_that_is_gone_stops_no_run(monkeypatch, name):
  class Gone:
    encoding = 'utf-8'

    def write(self, *_):
      raise OSError(5, 'Input/output error')

    flush = write

    def isatty(self):
      return True

    def fileno(self):
      raise OSError(5, 'Input/output error')

  monkeypatch.setattr(sys, name, Gone())
  with progress.Progress(True, minute=0) as bar:
    bar.doing('reading the data', aloud=True)
    bar.rounds(0, 2)
    bar.show(_row(0))
    bar.show(_row(1))


PROGRAM = """
from fedpm_jax.experiments import progress
with progress.Progress(True) as bar:
  bar.rounds(0, 2)
  for t in range(2):
    bar.show({'round_idx': t, 'train/loss': 1.5, 'eval/accuracy_mean': 0.25})
"""


@pytest.mark.parametrize('columns', [0, 90])
def test_a_terminal_has_a_bar_of_whatever_size_it_is(columns):
  ours, theirs = pty.openpty()
  if columns:
    import fcntl
    import struct
    import termios

    size = struct.pack('HHHH', 30, columns, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
  subprocess.run(
    [sys.executable, '-c', PROGRAM], cwd=ROOT, stderr=theirs, check=True
  )
  os.close(theirs)
  shown = os.read(ours, 100_000).decode()
  os.close(ours)
  last = shown.strip().splitlines()[-1].split('\r')[-1]
  assert last.startswith('2/2 |')
  assert 'mean 0.250  loss 1.500' in last
