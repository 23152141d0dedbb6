"""Huge pages for the arrays of a process, which must be decided as it starts.

XLA's CPU backend, like NumPy, allocates every temporary array anew.  glibc's
allocator maps each large array from the kernel and gives it back at once.  The
kernel then zeroes its pages of 4 KiB one by one.  With huge pages, and with
memory that is kept, a training step of CONV-6 takes a fifth less time and
coding its masks takes 40 % less (benchmarks/round.py).  glibc reads these
settings once, before Python runs.
"""

import contextlib
import os
import pathlib
import platform
import sys

_VARIABLE = 'GLIBC_TUNABLES'
_SETTINGS = ':'.join(
  (
    'glibc.malloc.hugetlb=1',  # ask the kernel for huge pages
    # One heap for all threads, because the heaps of further threads consist of
    # pieces of at most 64 MiB.
    'glibc.malloc.arena_max=1',
    # Bytes.  Arrays below this size get no mapping of their own.
    f'glibc.malloc.mmap_threshold={2**32}',
    f'glibc.malloc.trim_threshold={2**33}',  # bytes; keep what was freed
  )
)
_RESTARTED = 'FEDPM_JAX_RESTARTED'
# A process that has imported one of these is no longer at its beginning.
_LARGE = ('numpy', 'jax', 'IPython')
_KERNEL = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')
_NVIDIA = pathlib.Path('/dev/nvidiactl')


def environment(environ: dict[str, str]) -> dict[str, str]:
  """The environment that gives a process huge pages.

  It adds nothing in four cases: the allocator is not that of glibc 2.35 or
  newer; the kernel has no huge pages; somebody has chosen `glibc.malloc`
  settings already; or an NVIDIA GPU computes.  The last because dozens of
  threads share the heap to compile for a GPU, and one heap makes them wait for
  each other.

  Args:
    environ: the environment of this process.

  Returns:
    A copy, with glibc's settings where they help.
  """
  environ = dict(environ)
  if _NVIDIA.exists() and environ.get('JAX_PLATFORMS', 'cuda') != 'cpu':
    return environ
  chosen = environ.get(_VARIABLE, '')
  try:
    offered = '[never]' not in _KERNEL.read_text()
  except OSError:
    offered = False
  if offered and 'glibc.malloc' not in chosen and _uses_glibc():
    environ[_VARIABLE] = f'{chosen}:{_SETTINGS}'.strip(':')
  return environ


def restart_with_huge_pages() -> None:
  """Starts this program again, once, in that environment: same process id.

  Does nothing where the program is not at its beginning: in a notebook, or
  where another program runs it and has imported NumPy or JAX.
  """
  if _RESTARTED in os.environ or any(name in sys.modules for name in _LARGE):
    return
  environ = environment(dict(os.environ))
  if environ != dict(os.environ) and sys.executable:
    environ[_RESTARTED] = '1'
    # Where the restart fails, this process goes on and is only slower.
    with contextlib.suppress(OSError):
      os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)


def _uses_glibc() -> bool:
  """Whether glibc knows huge pages; these settings make older ones slower."""
  if sys.platform != 'linux':
    return False
  name, version = platform.libc_ver()
  numbers = version.split('.')[:2]
  if name != 'glibc' or not all(number.isdigit() for number in numbers):
    return False
  return tuple(map(int, numbers)) >= (2, 35)
