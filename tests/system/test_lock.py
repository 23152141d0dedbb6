"""A folder has one writer, whoever dies."""

import os
import signal
import subprocess
import sys

import pytest

from fedpm_jax.system import lock

_HOLD = """
import pathlib, sys, time
from fedpm_jax.system import lock
with lock.locked(pathlib.Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that holds the lock of `tmp_path`."""
  with subprocess.Popen(
    [sys.executable, '-c', _HOLD, tmp_path], stdout=subprocess.PIPE, text=True
  ) as process:
    assert process.stdout
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()


def test_a_second_writer_is_refused_in_a_line_that_names_the_first(
  holder, tmp_path
):
  with (
    pytest.raises(lock.LockedError) as caught,
    lock.locked(tmp_path),
  ):
    pass
  assert f'{tmp_path} is in use: process {holder.pid} ' in str(caught.value)
  assert '\n' not in str(caught.value)


def test_the_lock_goes_with_a_process_that_is_killed(holder, tmp_path):
  holder.send_signal(signal.SIGKILL)
  with lock.locked(tmp_path):  # even at once
    assert (tmp_path / lock.NAME).read_text() == f'{os.getpid()}\n'


def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path):
  folder = tmp_path / 'new' / 'folder'
  with (
    lock.locked(folder),
    pytest.raises(lock.LockedError, match='this process writes to it'),
    lock.locked(folder),
  ):
    pass
  with lock.locked(folder):
    pass


def test_no_child_keeps_the_lock(tmp_path):
  with lock.locked(tmp_path):
    child = subprocess.Popen(['sleep', '60'], close_fds=False)
  with lock.locked(tmp_path):
    child.kill()
    child.wait()
