"""Huge pages are asked for once, where there are any, and never forced."""

import ast
import subprocess
import sys

import pytest

from fedpm_jax.system import allocator


@pytest.fixture
def offered(tmp_path, monkeypatch):
  kernel = tmp_path / 'enabled'
  kernel.write_text('always [madvise] never\n')
  monkeypatch.setattr(allocator, '_KERNEL', kernel)
  monkeypatch.setattr(allocator, '_NVIDIA', tmp_path / 'nvidiactl')
  monkeypatch.setattr(allocator, '_uses_glibc', lambda: True)
  return kernel


def test_settings_are_added_once_to_what_is_there(offered):
  first = allocator.environment(
    {'HOME': '/', 'GLIBC_TUNABLES': 'glibc.cpu.x=1'}
  )
  assert first['HOME'] == '/'
  settings = first['GLIBC_TUNABLES'].split(':')
  assert settings[0] == 'glibc.cpu.x=1'
  assert 'glibc.malloc.hugetlb=1' in settings
  assert allocator.environment(first) == first
  alone = allocator.environment({})['GLIBC_TUNABLES']
  assert alone.split(':') == settings[1:]


def test_a_choice_of_the_user_stands(offered):
  mine = {'GLIBC_TUNABLES': 'glibc.malloc.check=1'}
  assert allocator.environment(mine) == mine


@pytest.mark.parametrize('kernel', ['always madvise [never]\n', None])
def test_nothing_is_asked_of_a_kernel_without_huge_pages(offered, kernel):
  if kernel is None:
    offered.unlink()
  else:
    offered.write_text(kernel)
  assert allocator.environment({}) == {}


def test_nothing_is_asked_where_an_nvidia_gpu_computes(offered):
  assert 'GLIBC_TUNABLES' in allocator.environment({})
  allocator._NVIDIA.touch()
  for environ in ({}, {'JAX_PLATFORMS': 'cuda'}):
    assert allocator.environment(environ) == environ
  assert 'GLIBC_TUNABLES' in allocator.environment({'JAX_PLATFORMS': 'cpu'})


def test_nothing_is_asked_of_another_allocator(offered, monkeypatch):
  monkeypatch.setattr(allocator, '_uses_glibc', lambda: False)
  assert allocator.environment({}) == {}


@pytest.mark.parametrize(
  ('version', 'enough'),
  [
    (('glibc', '2.34'), False),
    (('glibc', '2.35'), True),
    (('glibc', '2.40.9000'), True),
    (('musl', '2.36'), False),
    (('', ''), False),
  ],
)
def test_an_old_allocator_is_left_alone(version, enough, monkeypatch):
  monkeypatch.setattr(allocator.sys, 'platform', 'linux')
  monkeypatch.setattr(allocator.platform, 'libc_ver', lambda: version)
  assert allocator._uses_glibc() == enough


@pytest.mark.parametrize('state', ['numpy', 'restarted'])
def test_a_program_that_has_begun_is_not_restarted(state, monkeypatch):
  monkeypatch.setattr(allocator, 'environment', lambda e: {**e, 'X': '1'})
  monkeypatch.setattr(allocator.os, 'execve', lambda *_: pytest.fail('restart'))
  if state == 'restarted':
    monkeypatch.setattr(allocator, '_LARGE', ())
    monkeypatch.setenv('FEDPM_JAX_RESTARTED', '1')
  allocator.restart_with_huge_pages()


def test_a_restart_that_fails_is_no_error(monkeypatch):
  tried = []

  def execve(*arguments):
    tried.append(arguments)
    raise OSError('Argument list too long')

  monkeypatch.setattr(allocator, '_LARGE', ())
  monkeypatch.setattr(allocator, 'environment', lambda e: {**e, 'X': '1'})
  monkeypatch.setattr(allocator.os, 'execve', execve)
  allocator.restart_with_huge_pages()
  assert tried[0][2]['FEDPM_JAX_RESTARTED'] == '1'


def test_the_program_asks_before_it_imports_anything_large():
  path = allocator.pathlib.Path(allocator.__file__).parents[1] / 'train.py'
  body = ast.parse(path.read_text()).body[1:]  # without the docstring
  assert ast.unparse(body[0]) == 'from fedpm_jax.system import allocator'
  assert ast.unparse(body[1]).splitlines() == [
    "if __name__ == '__main__':",
    '    allocator.restart_with_huge_pages()',
  ]


def test_a_program_starts_anew_once_with_its_arguments_and_options(tmp_path):
  program = tmp_path / 'program.py'
  program.write_text(
    'import os, sys\n'
    'from fedpm_jax.system import allocator\n'
    "with open(sys.argv[2], 'a') as log: log.write(f'{os.getpid()} ')\n"
    'allocator.environment = lambda e: {**e, "RESTARTED": "1"}\n'
    'allocator.restart_with_huge_pages()\n'
    'assert os.environ["RESTARTED"] == "1"\n'
    'print(sys.argv[1:], sys.warnoptions)\n'
  )
  log = tmp_path / 'log'
  result = subprocess.run(
    [sys.executable, '-W', 'error', program, 'a b', log],
    capture_output=True,
    text=True,
    check=True,
    env={'PYTHONPATH': str(allocator.pathlib.Path(__file__).parents[2])},
  )
  assert result.stdout == f"['a b', {str(log)!r}] ['error']\n"
  pids = log.read_text().split()
  assert len(pids) == 2
  assert pids[0] == pids[1]
