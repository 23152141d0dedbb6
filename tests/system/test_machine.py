"""What the program arranges for itself: cores, kept programs."""

import math
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

from fedpm_jax.system import machine

MEMINFO = pathlib.Path('/proc/meminfo')


@pytest.fixture
def no_cache():
  names = (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
  )
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update('jax_compilation_cache_dir', None)
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache(no_cache, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  folder = machine.keep_compiled_programs()
  assert folder.parent == tmp_path / 'fedpm_jax'
  assert folder.is_dir()
  assert jax.config.jax_compilation_cache_dir == str(folder)


def test_a_folder_that_somebody_chose_stands(no_cache, tmp_path):
  jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  assert machine.keep_compiled_programs() == tmp_path


def test_nothing_is_kept_where_nothing_can_be_written(
  no_cache, tmp_path, monkeypatch
):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  assert machine.keep_compiled_programs() is None
  assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_others_can_write_is_not_trusted(
  no_cache, tmp_path, monkeypatch
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  folder = machine.keep_compiled_programs()
  assert not folder.stat().st_mode & 0o077
  jax.config.update('jax_compilation_cache_dir', None)
  folder.chmod(0o770)
  assert machine.keep_compiled_programs() is None


def test_a_second_process_finds_the_first_ones_programs(tmp_path):
  program = (
    'import jax\n'
    'from fedpm_jax.system import machine\n'
    'machine.start_jax()\n'
    'machine.keep_compiled_programs()\n'
    "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
    'hits = []\n'
    'jax.monitoring.register_event_listener(\n'
    "  lambda name, **_: hits.append(name.endswith('cache_hits')))\n"
    'print(jax.jit(lambda x: x @ x.T + 1)(jax.numpy.ones((3, 4)))[0, 0])\n'
    'print(len(jax.devices()), any(hits))\n'
  )
  outputs = [
    subprocess.run(
      [sys.executable, '-W', 'error', '-c', program],
      capture_output=True,
      text=True,
      check=True,
      env={
        'XDG_CACHE_HOME': str(tmp_path),
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': str(machine.pathlib.Path(__file__).parents[2]),
      },
    )
    for _ in range(2)
  ]
  cores = outputs[0].stdout.split()[1]
  assert outputs[0].stdout.split() == ['5.0', cores, 'False']
  assert outputs[1].stdout.split() == ['5.0', cores, 'True']
  assert not outputs[1].stderr


@pytest.mark.parametrize(
  ('files', 'quota'),
  [
    ({}, math.inf),
    ({'cpu.max': 'max 100000\n'}, math.inf),
    ({'cpu.max': '150000 100000\n'}, 1.5),
    ({'cpu.max': '150000 0\n'}, math.inf),
    ({'cpu.max': 'garbage'}, math.inf),
    (
      {'cpu/cpu.cfs_quota_us': '50000', 'cpu/cpu.cfs_period_us': '100000'},
      0.5,
    ),
    ({'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100'}, math.inf),
  ],
)
def test_a_quota_of_the_control_group_counts(tmp_path, files, quota):
  for name, text in files.items():
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
  assert machine.quota(tmp_path) == quota


@pytest.mark.skipif(not MEMINFO.exists(), reason='of Linux')
@pytest.mark.parametrize(
  ('files', 'limit'),
  [
    ({}, None),
    ({'memory.max': 'max\n'}, None),
    ({'memory.max': '4096\n'}, 4096),
    ({'memory.max': str(2**60)}, None),  # more than there is
    ({'memory/memory.limit_in_bytes': '8192\n'}, 8192),
    ({'cpu/memory.max': '4096\n'}, None),  # no folder for memory
  ],
)
def test_memory_is_that_of_the_machine_or_less(tmp_path, files, limit):
  for name, text in files.items():
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
  total = re.search(r'MemTotal:\s+(\d+) kB', MEMINFO.read_text())
  assert machine.memory_limit(tmp_path) == (limit or 1024 * int(total[1]))


@pytest.mark.parametrize(
  ('quota', 'affinity', 'cores'),
  [(math.inf, 8, 8), (1.5, 8, 2), (2.0, 8, 2), (0.1, 8, 1), (16.0, 4, 4)],
)
def test_cores_are_the_fewer_of_affinity_and_quota(
  monkeypatch, quota, affinity, cores
):
  monkeypatch.setattr(machine, 'quota', lambda: quota)
  monkeypatch.setattr(
    os, 'sched_getaffinity', lambda _: set(range(affinity)), raising=False
  )
  assert machine.cores() == cores
