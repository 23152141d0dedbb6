"""What a process asks of its machine, before JAX has started.

Nobody should have to set environment variables to get the speed that the
docs/performance.md promises, so the program's entry points call these.  And no environment
variable changes the numbers of a run: what would is refused.
"""

import contextlib
import hashlib
import math
import os
import pathlib
import platform
import re
from typing import Any

import jax

from fedpm_jax.system import accelerator

_XLA_CACHE = 'jax_compilation_cache_dir'
_CGROUP = pathlib.Path('/sys/fs/cgroup')
_NUM_DEVICES = 'xla_force_host_platform_device_count'

# Settings of JAX that change what is computed, with the value that they need.
_NEEDED = {
  'jax_enable_x64': False,
  'jax_default_matmul_precision': None,
  'jax_default_prng_impl': 'threefry2x32',
  'jax_disable_most_optimizations': False,
  'jax_numpy_dtype_promotion': 'standard',
  'jax_random_seed_offset': 0,
  'jax_threefry_partitionable': True,
}
_FAST_MATH = re.compile(r'--(xla_\w*fast_m\w*)(?:=(?:true|1)\b|(?=\s|$))')


def start_jax() -> None:
  """Starts JAX, on a CPU with one device per core: clients train side by side.

  XLA's CPU backend can use several cores inside one operation, but that pays
  for large matrices only.  One client per core keeps every core busy.  Where
  this process has already used JAX, or somebody has chosen the number of
  devices, nothing changes.

  Raises:
    ValueError: JAX finds no device that it may use, or has a setting that
      changes the numbers of a run.
  """
  _check_settings()
  flags = os.environ.get('XLA_FLAGS', '')
  if _setting('jax_num_cpu_devices', -1) < 0 and _NUM_DEVICES not in flags:
    with contextlib.suppress(RuntimeError):  # JAX has started.
      jax.config.update('jax_num_cpu_devices', cores())
  asked = _setting('jax_platforms', None)
  try:
    accelerator.warn_if_unused(asked or _setting('jax_platform_name', None))
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    reason = str(error).strip().partition('\n')[0] or 'it gives no reason'
    if jax.distributed.is_initialized():
      raise ValueError(
        f'JAX does not start on all hosts ({reason}): their own logs say why.'
      ) from error
    raise ValueError(
      f'JAX finds no device with JAX_PLATFORMS={asked or ""} ({reason}). Install'
      f' JAX for this hardware, such as {accelerator.command("cuda12")}, or set'
      ' JAX_PLATFORMS=cpu.'
    ) from error


def _check_settings() -> None:
  """Numbers depend on the configuration alone; ValueError where not."""
  for name, needed in _NEEDED.items():
    found = _setting(name, needed)
    if found != needed:
      raise ValueError(
        f'{name} = {found!r} changes the numbers of a run, which depend on its'
        f' configuration alone: unset {name.upper()}, or'
        f' jax.config.update({name!r}, {needed!r}) first.'
      )
  found = _FAST_MATH.search(os.environ.get('XLA_FLAGS', ''))
  if found:
    raise ValueError(
      f'XLA_FLAGS holds {found[1]}, which changes the numbers of a run: leave it'
      ' out.'
    )


def _setting(name: str, default: Any) -> Any:
  """A setting of JAX; its default where this version does not know it."""
  # What a thread may change is an attribute, the rest is in `values` alone.
  return getattr(jax.config, name, jax.config.values.get(name, default))


def devices() -> str:
  """The devices that JAX uses, for people, such as '2 x cpu'."""
  told = f'{jax.device_count()} x {jax.devices()[0].device_kind}'
  hosts = jax.process_count()
  return f'{told} on {hosts} hosts' if hosts > 1 else told


def cores() -> int:
  """How many cores this process may use: by affinity, and by CPU quota."""
  affinity = getattr(os, 'sched_getaffinity', None)  # Linux only
  number = len(affinity(0)) if affinity else os.cpu_count() or 1
  return max(1, math.ceil(min(number, quota())))


def quota(root: pathlib.Path = _CGROUP) -> float:
  """The CPU quota of this process's control group, in cores.

  A container, or a batch system, gives a process a share of a large machine.
  Threads beyond the share only make each other wait.

  Args:
    root: where the kernel shows control groups, version 2 or 1.
  """
  quotas = [math.inf]
  for folder in _groups(root):
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
      share, period = (folder / 'cpu.max').read_text('ascii').split()
      quotas.append(math.inf if share == 'max' else int(share) / int(period))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
      share, period = (
        int((folder / f'cpu.cfs_{name}_us').read_text('ascii'))
        for name in ('quota', 'period')
      )
      quotas.append(math.inf if share < 0 else share / period)
  return min(quotas)


def memory_limit(root: pathlib.Path = _CGROUP) -> float:
  """Bytes of memory that arrays on JAX's first device may take, at most.

  On a CPU that is the machine's memory, or less where this process's control
  group has less.  Infinite where nobody says.

  Args:
    root: see `quota`.
  """
  stats = jax.local_devices()[0].memory_stats() or {}
  limits = [math.inf, stats.get('bytes_limit', math.inf)]
  if jax.local_devices()[0].platform == 'cpu':
    with contextlib.suppress(AttributeError, OSError, ValueError):
      limits.append(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))
    for folder in _groups(root, 'memory'):
      for name in ('memory.max', 'memory.limit_in_bytes'):
        with contextlib.suppress(OSError, ValueError):  # 'max' is no number.
          limits.append(int((folder / name).read_text('ascii')))
  return min(limits)


def _groups(root: pathlib.Path, controller: str = 'cpu') -> list[pathlib.Path]:
  """The folders of this process's group and of all groups around it."""
  found = [root, root / controller]
  if controller == 'cpu':
    found.append(root / 'cpu,cpuacct')
  try:
    lines = pathlib.Path('/proc/self/cgroup').read_text('utf-8').splitlines()
  except (OSError, ValueError):
    return found
  for line in lines:
    _, controllers, path = line.split(':', 2)
    if controllers and controller not in controllers.split(','):
      continue
    inner = pathlib.PurePosixPath(path.lstrip('/'))
    if '..' not in inner.parts:
      base = root / controllers  # version 2 has no names of controllers
      found += [base / part for part in (inner, *inner.parents)]
  return found


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
    text = pathlib.Path('/proc/cpuinfo').read_text('utf-8', 'replace')
    kinds = ('model name', 'flags', 'Features', 'CPU part')
    lines += sorted({x for x in text.splitlines() if x.startswith(kinds)})
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:8]
