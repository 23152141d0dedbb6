"""An accelerator beside a JAX for CPUs: one warning with the command."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from fedpm_jax.system import accelerator

ROOT = pathlib.Path(__file__).parents[2]
CLOSED = 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5'
OPEN = (
  'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release'
)
GPU = {'dev/nvidia0': '', 'dev/nvidiactl': ''}
VERSION = 'proc/driver/nvidia/version'


def make(root, files):
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
  ('files', 'extra'),
  [
    (GPU, 'cuda12'),
    ({'dev/nvidia3': ''}, 'cuda12'),  # a container that was given this one
    (GPU | {VERSION: CLOSED}, 'cuda12'),
    (GPU | {VERSION: OPEN}, 'cuda13'),
    (GPU | {VERSION: 'nonsense'}, 'cuda12'),
    ({'dev/accel0': '', 'dev/accel1': ''}, 'tpu'),
  ],
)
def test_what_is_there_gets_its_command(tmp_path, files, extra):
  make(tmp_path, files)
  line = accelerator.unused({}, set(), tmp_path)
  assert f"pip install 'jax[{extra}]=={jax.__version__}'" in line
  assert 'JAX_PLATFORMS=cpu' in line
  assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
  ('files', 'environment', 'installed'),
  [
    ({}, {}, set()),
    (GPU, {}, {'cuda'}),
    (GPU, {'CUDA_VISIBLE_DEVICES': ''}, set()),
    (GPU, {'CUDA_VISIBLE_DEVICES': '-1'}, set()),
    # A container that was given no GPU sees the driver of its host.
    ({VERSION: CLOSED, 'dev/nvidiactl': ''}, {}, set()),
    ({'dev/accel0': ''}, {}, {'tpu'}),
    ({'dev/accel/accel0': ''}, {}, set()),  # an accelerator of somebody else
    ({'dev/vfio/0': '', 'dev/vfio/vfio': ''}, {}, set()),
    ({'dev/vfio/vfio': ''}, {'TPU_NAME': 'a'}, set()),
  ],
)
def test_no_false_alarm(tmp_path, files, environment, installed):
  make(tmp_path, files)
  assert accelerator.unused(environment, installed, tmp_path) is None


def test_a_tpu_behind_vfio_is_one_where_the_environment_says_so(tmp_path):
  make(tmp_path, {'dev/vfio/0': ''})
  assert "'jax[tpu]==" in accelerator.unused({'TPU_NAME': 'a'}, set(), tmp_path)


PROGRAM = """
import functools, pathlib, sys
from jax._src import hardware_utils
from fedpm_jax.system import accelerator, machine
root = pathlib.Path(sys.argv[1])
accelerator.unused = functools.partial(accelerator.unused, root=root)
accelerator._PLUGINS = {'cuda': ('no_such_plugin',), 'tpu': ('no_such_plugin',)}
hardware_utils.has_visible_nvidia_gpu = lambda: True
machine.start_jax()
machine.start_jax()
"""


@pytest.mark.parametrize(
  ('environment', 'count'),
  [
    ({}, 1),
    ({'JAX_PLATFORMS': 'cpu'}, 0),
    ({'JAX_PLATFORM_NAME': 'cpu'}, 0),
    ({'CUDA_VISIBLE_DEVICES': '-1'}, 0),
  ],
)
def test_one_warning_of_ours_and_none_of_jax(tmp_path, environment, count):
  make(tmp_path, GPU)
  inherited = {k: v for k, v in os.environ.items() if k != 'JAX_PLATFORMS'}
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(tmp_path)],
    cwd=ROOT,
    env=inherited | environment,
    capture_output=True,
    text=True,
    check=True,
  )
  said = [line for line in done.stderr.splitlines() if 'pip install' in line]
  assert len(said) == count, done.stderr
  if count:
    assert len(done.stderr.splitlines()) == 1
