"""One process at a time writes to a folder.

Two runs in one folder would mix their rows and replace each other's files.  The
lock is the kernel's: it goes with the process that holds it, however that dies,
so that nobody ever has to delete a stale one.
"""

import contextlib
import errno
import os
import pathlib
import time
from collections.abc import Iterator

from absl import logging

try:
  import fcntl
except ImportError:  # Windows has no such locks.
  fcntl = None

NAME = '.lock'
# A process that was just killed needs a moment until its lock is free.
_PATIENCE = 1.0  # seconds
_HELD = (errno.EAGAIN, errno.EACCES)


class LockedError(ValueError):
  """Another process writes to the folder."""


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
  """Keeps other processes, and other threads, from writing to a folder.

  Args:
    folder: is made where it is missing.  The lock is its file `.lock`, which
      holds the process id; it stays, and is worth nothing, when the block ends.

  Raises:
    LockedError: a process holds the lock; the message names it.
    OSError: the folder cannot be written.
  """
  folder.mkdir(parents=True, exist_ok=True)
  # Not inherited, so that no child holds the lock longer than this process.
  number = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
  try:
    _acquire(number, folder)
    with contextlib.suppress(OSError):  # A full disk: it stays a lock.
      os.ftruncate(number, 0)
      os.pwrite(number, f'{os.getpid()}\n'.encode(), 0)
    yield
  finally:
    os.close(number)  # which gives the lock back


def is_held(folder: pathlib.Path) -> bool:
  """Whether a process writes to a folder just now; nothing is changed."""
  try:
    number = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
  except OSError:
    return False
  try:
    if fcntl is not None:
      fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except OSError as error:
    return error.errno in _HELD
  finally:
    os.close(number)  # which gives a shared lock back
  return False


def _acquire(number: int, folder: pathlib.Path) -> None:
  """Locks an open file; LockedError where another one has."""
  if fcntl is None:
    logging.warning('%s is not locked: this system has no file locks.', folder)
    return
  deadline = time.monotonic() + _PATIENCE
  while True:
    try:
      fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return
    except OSError as error:
      if error.errno not in _HELD:  # Some network file systems have no locks.
        logging.warning('%s is not locked: %s.', folder, error.strerror)
        return
    if time.monotonic() > deadline:
      raise LockedError(
        f'{folder} is in use: {_holder(number)} writes to it. Wait until it has'
        ' ended, or choose another --workdir.'
      )
    time.sleep(0.05)


def _holder(number: int) -> str:
  """Who holds the lock, as it wrote itself."""
  digits = os.pread(number, 20, 0).decode(errors='replace').strip()
  if not digits.isdecimal():
    return 'another process'
  return 'this process' if int(digits) == os.getpid() else f'process {digits}'
