"""The cache of arrays: whatever happens to the file, never wrong arrays."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from fedpm_jax.data import cache


def test_no_damaged_byte_gets_through_the_cache(tmp_path, caplog):
  """Every byte of a cache flipped, every length cut: right arrays or None."""
  caplog.set_level('CRITICAL', logger='absl')
  path = tmp_path / 'cache.npz'
  arrays = {
    'x': np.arange(12, dtype=np.uint8).reshape(3, 4),
    'y': np.array([3, 1, 2], np.int32),
  }
  cache.write(path, 'the key', arrays)
  good = path.read_bytes()
  refused = 0

  def check(content):
    path.write_bytes(content)
    found = cache.read(path, 'the key')
    if found is None:
      return 1
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
      np.testing.assert_array_equal(found[name], array)
      assert found[name].dtype == array.dtype
    return 0

  assert check(good) == 0
  for at in range(len(good)):
    refused += check(good[:at] + bytes([good[at] ^ 0x41]) + good[at + 1 :])
  assert refused > len(good) / 2  # the rest are dates and the like
  for length in range(0, len(good), 5):
    assert check(good[:length]) == 1


def test_a_cache_of_other_data_is_not_read(tmp_path):
  path = tmp_path / 'folder' / 'cache.npz'
  assert cache.read(path, 'one') is None
  cache.write(path, 'one', {'x': np.zeros(2, np.uint8)})
  assert cache.read(path, 'one') is not None
  assert cache.read(path, 'two') is None


class Trap:
  """Leaves a file behind where it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_a_cache_cannot_run_code(tmp_path):
  path, sprung = tmp_path / 'cache.npz', tmp_path / 'sprung'
  np.savez(path, key=np.array(['one', Trap(sprung)], object))
  assert cache.read(path, 'one') is None
  assert not sprung.exists()
  np.load(path, allow_pickle=True)['key']
  assert sprung.exists()  # the trap works


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'cache.npz'
  cache.write(path, 'key', {'x': np.zeros(2, np.uint8)})
  before = path.read_bytes()

  def disk_full(file, **arrays):
    file.write(b'half')
    raise OSError('disk full')

  monkeypatch.setattr(np, 'savez', disk_full)
  with pytest.raises(OSError, match='disk full'):
    cache.write(path, 'key', {'x': np.ones(2, np.uint8)})
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [path]


def test_a_file_shows_only_when_it_is_whole(tmp_path, monkeypatch):
  path = tmp_path / 'cache.npz'
  replace, seen = os.replace, []

  def watched(temporary, target):
    seen.append((path.exists(), pathlib.Path(temporary).stat().st_size))
    replace(temporary, target)

  monkeypatch.setattr(os, 'replace', watched)
  cache.write(path, 'key', {'x': np.zeros(2, np.uint8)})
  assert seen == [(False, path.stat().st_size)]


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path):
  path = tmp_path / 'cache.npz'
  killed = """
import os, pathlib, sys
from fedpm_jax.system import files
with files.replacing(pathlib.Path(sys.argv[1])) as file:
  file.write(b'half')
  file.flush()
  os._exit(9)
"""
  subprocess.run([sys.executable, '-c', killed, path], check=False)
  (left,) = tmp_path.iterdir()
  others = ['.notes.npz.txt', '.x.npz.tmp', 'x.npz.1.tmp', '.x.txt.1.tmp']
  for name in others:
    (tmp_path / name).touch()
  write = lambda: cache.write(path, 'key', {'x': np.zeros(2, np.uint8)})
  names = lambda: sorted(file.name for file in tmp_path.iterdir())
  for hours, kept in [(0, [left.name]), (23, [left.name]), (25, [])]:
    then = time.time() - hours * 3600
    for file in tmp_path.iterdir():
      os.utime(file, (then, then))
    write()
    assert names() == sorted([path.name, *others, *kept])


def test_leftovers_that_cannot_be_removed_are_no_error(tmp_path, monkeypatch):
  left = tmp_path / f'.cache.npz.{"0" * 32}.tmp'
  left.touch()
  os.utime(left, (0, 0))
  unlink = pathlib.Path.unlink

  def refuse(path, **options):
    if path == left:
      raise PermissionError
    unlink(path, **options)

  monkeypatch.setattr(pathlib.Path, 'unlink', refuse)
  path = tmp_path / 'cache.npz'
  cache.write(path, 'key', {'x': np.zeros(2, np.uint8)})
  assert cache.read(path, 'key') is not None
  assert left.exists()
