"""Files that are whole or not there."""

import os
import stat

import pytest

from fedpm_jax.system import files


def is_folder(descriptor):
  return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_content_then_name_then_folder_reach_the_disk(tmp_path, monkeypatch):
  """In any other order a power cut could leave an empty file, or none."""
  path, done = tmp_path / 'file', []
  fsync, replace = os.fsync, os.replace

  def noting_fsync(descriptor):
    fsync(descriptor)
    done.append('folder' if is_folder(descriptor) else 'content')

  def noting_replace(old, new):
    replace(old, new)
    done.append('renamed')

  monkeypatch.setattr(files.os, 'fsync', noting_fsync)
  monkeypatch.setattr(files.os, 'replace', noting_replace)
  files.write_bytes(path, b'content')
  assert done == ['content', 'renamed', 'folder']


def test_a_file_system_that_syncs_no_folders_is_no_error(tmp_path, monkeypatch):
  fsync = os.fsync

  def refusing(descriptor):
    if is_folder(descriptor):
      raise OSError(22, 'Invalid argument')
    fsync(descriptor)

  monkeypatch.setattr(files.os, 'fsync', refusing)
  files.write_bytes(tmp_path / 'file', b'content')
  assert (tmp_path / 'file').read_bytes() == b'content'


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
  tmp_path, monkeypatch
):
  path = tmp_path / 'file'
  files.write_bytes(path, b'old')

  def full(descriptor):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(files.os, 'fsync', full)
  with pytest.raises(OSError, match='No space left') as caught:
    files.write_bytes(path, b'new')
  assert caught.value.filename == str(path)
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]
