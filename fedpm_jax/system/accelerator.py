"""A GPU or TPU that is there and that this JAX cannot use: told of, once.

The plain `pip install jax` has no code for accelerators.  A run then takes hours
instead of minutes on a machine that somebody pays for, and JAX's own warning
does not say which command helps.
"""

import contextlib
import functools
import importlib.util
import os
import pathlib
import re
from collections.abc import Mapping

import jax
from absl import logging

from fedpm_jax.system import quiet

_DRIVER = re.compile(r'Kernel Module.*?\s(\d+)\.\d+')
_CUDA_13_NEEDS = 580  # the least version of NVIDIA's driver
_PLUGINS = {
  'cuda': ('jax_cuda12_plugin', 'jax_cuda13_plugin'),
  'tpu': ('libtpu',),
}


@functools.cache
def warn_if_unused(platforms: str | None) -> None:
  """Warns, once in a process, if JAX computes on the CPU beside an accelerator.

  Where there is one that this JAX has no code for, it starts JAX.

  Args:
    platforms: `jax_platforms`; who has set it has chosen, and gets no warning.
  """
  installed = {
    name
    for name, plugins in _PLUGINS.items()
    if any(importlib.util.find_spec(plugin) for plugin in plugins)
  }
  line = None if platforms else unused(os.environ, installed)
  if not line:
    return
  # JAX's own warning names no command.
  with quiet.without('jax._src.xla_bridge', 'may be present'):
    is_cpu = jax.default_backend() == 'cpu'
  if is_cpu:
    logging.warning('%s', line)


def unused(
  environment: Mapping[str, str],
  installed: set[str],
  root: pathlib.Path = pathlib.Path('/'),
) -> str | None:
  """What to say of an accelerator that this JAX has no code for, or None.

  Args:
    environment: variables of the process; some of them hide an accelerator.
    installed: which of 'cuda' and 'tpu' JAX has code for.
    root: below which the kernel shows its devices.
  """
  hidden = environment.get('CUDA_VISIBLE_DEVICES') in ('', '-1')
  devices = root / 'dev'
  if (
    'cuda' not in installed and not hidden and any(devices.glob('nvidia[0-9]*'))
  ):
    kind, extra, beside = 'an NVIDIA GPU', *_cuda(root)
  elif 'tpu' not in installed and _has_tpu(devices, environment):
    kind, extra, beside = 'a TPU', 'tpu', ''
  else:
    return None
  return (
    f'This machine has {kind}, and this JAX can use the CPU only. To use it:'
    f' {command(extra)}{beside}. JAX_PLATFORMS=cpu says that the CPU is meant.'
  )


def command(extra: str) -> str:
  """Installs the code for an accelerator, of the version of JAX that is here.

  Args:
    extra: of the package jax: 'cuda12', 'cuda13' or 'tpu'.
  """
  return f"pip install 'jax[{extra}]=={jax.__version__}'"


def _cuda(root: pathlib.Path) -> tuple[str, str]:
  """The extra that suits the driver, and what to say beside."""
  driver = None
  with contextlib.suppress(OSError):
    path = root / 'proc' / 'driver' / 'nvidia' / 'version'
    driver = _DRIVER.search(path.read_text('utf-8', 'replace'))
  if driver and int(driver[1]) >= _CUDA_13_NEEDS:
    return 'cuda13', ' (cuda12 for a GPU older than Turing)'
  return 'cuda12', ''


def _has_tpu(devices: pathlib.Path, environment: Mapping[str, str]) -> bool:
  """Whether there is a TPU; other devices lie in /dev/vfio too."""
  if any(devices.glob('accel[0-9]*')):
    return True
  named = any(name.startswith('TPU_') for name in environment)
  return named and any(devices.glob('vfio/[0-9]*'))
