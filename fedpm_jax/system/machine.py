"""What a process asks of its machine, before JAX has started.

Nobody should have to set environment variables to get the speed that the
README promises, so the program's entry points call these.
"""

import contextlib
import hashlib
import os
import pathlib
import platform

import jax

_XLA_CACHE = 'jax_compilation_cache_dir'


def use_all_cores() -> None:
  """On a CPU, one JAX device per core, so that clients train side by side.

  XLA's CPU backend can use several cores inside one operation, but that pays
  for large matrices only.  One client per core keeps every core busy.  Where
  this process has already used JAX it is too late, and nothing changes.
  """
  with contextlib.suppress(RuntimeError):
    jax.config.update('jax_num_cpu_devices', cores())


def cores() -> int:
  """How many cores this process may use."""
  affinity = getattr(os, 'sched_getaffinity', None)  # Linux only
  return len(affinity(0)) if affinity else os.cpu_count() or 1


def keep_compiled_programs() -> pathlib.Path | None:
  """Lets XLA find its programs of earlier runs, which saves a run's start.

  They lie in `$XDG_CACHE_HOME/fedpm_jax` (default `~/.cache`).  Each version of
  JAX and each kind of processor has a folder of its own, because several
  machines may share a home.  Whoever deletes the folder only has to compile
  again.  JAX's own settings, such as `$JAX_COMPILATION_CACHE_DIR`, go first.

  Returns:
    The folder, or None where nothing is kept: the folder cannot be written, or
    other users can write to it and so could make us run their programs.
  """
  if getattr(jax.config, _XLA_CACHE):
    return pathlib.Path(getattr(jax.config, _XLA_CACHE))
  home = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(home):  # XDG: a relative path does not count
    home = '~/.cache'
  name = f'xla-{jax.__version__}-{_cpu()}'
  try:
    folder = pathlib.Path(home).expanduser() / 'fedpm_jax' / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
  except (OSError, RuntimeError):  # RuntimeError: there is no home
    return None
  if os.name == 'posix' and (
    status.st_uid != os.getuid() or status.st_mode & 0o022
  ):
    return None
  if not os.access(folder, os.W_OK):
    return None
  jax.config.update(_XLA_CACHE, str(folder))
  # JAX's default keeps programs that take 1 s or more to compile.  The many
  # shorter ones together take as long.
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
  return folder


def _cpu() -> str:
  """Eight hex digits that differ where a compiled program may not run."""
  lines = [platform.machine(), platform.processor()]
  with contextlib.suppress(OSError):
    text = pathlib.Path('/proc/cpuinfo').read_text()
    kinds = ('model name', 'flags', 'Features', 'CPU part')
    lines += sorted({x for x in text.splitlines() if x.startswith(kinds)})
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:8]
