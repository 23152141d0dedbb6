"""The package as it is installed: a wheel, its command, what it declares."""

import ast
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv

import pytest

import fedpm_jax as fp

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A wheel in a bare environment outside of the checkout; its bin folder.

  What it depends on is seen through the tests' environment, because a test may
  not depend on a download; `test_every_import_is_declared` makes up for it.
  """
  folder = tmp_path_factory.mktemp('package')
  source = folder / 'source'
  shutil.copytree(
    ROOT,
    source,
    ignore=shutil.ignore_patterns('.*', 'runs', 'build', '*.egg-*'),
  )
  _pip('wheel', '--no-deps', '--no-build-isolation', '-w', folder, source)
  (wheel,) = folder.glob('*.whl')
  environment = folder / 'bare'
  venv.create(environment, with_pip=False)
  python = environment / 'bin' / 'python'
  _pip('--python', python, 'install', '--no-deps', '--no-index', wheel)
  (site,) = environment.glob('lib/python*/site-packages')
  # Folders that a .pth file adds are searched last, and theirs are not read.
  (site / 'dependencies.pth').write_text(sysconfig.get_path('purelib') + '\n')
  return python.parent


def _pip(*arguments):
  command = [sys.executable, '-m', 'pip', *map(str, arguments), '--quiet']
  subprocess.run(command, check=True, capture_output=True)


def _run(folder, *command):
  return subprocess.run(
    [*map(str, command)],
    cwd=folder,
    capture_output=True,
    text=True,
    env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
  )


def test_a_wheel_trains_by_name_from_any_folder(installed, tmp_path):
  where = _run(
    tmp_path,
    installed / 'python',
    '-c',
    'import fedpm_jax; print(fedpm_jax.__file__)',
  )
  assert where.stdout.startswith(str(installed.parent)), where.stderr
  done = _run(
    tmp_path,
    installed / 'fedpm',
    'train',
    '--config=cifar10',  # found, and its data set is not
    '--config.data.name=digits',
    '--config.model=cnn',
    '--config.rounds=2',
    '--config.data.max_examples=20',
  )
  assert done.returncode == 0, done.stderr
  name = 'cifar10,model=cnn,data.name=digits,data.max_examples=20'
  summary = json.loads((tmp_path / 'runs' / name / 'summary.json').read_text())
  assert summary['last']['round_idx'] == 1
  assert summary['config']['batch_size'] == 128  # of cifar10.py
  version = _run(tmp_path, installed / 'fedpm', '--version')
  assert version.stdout == f'fedpm_jax {fp.__version__}\n'


def test_a_wheel_finds_its_sweeps_and_programs(installed, tmp_path):
  done = _run(
    tmp_path,
    installed / 'python',
    *('-m', 'fedpm_jax.sweep', '--config=comparison', '--only=method=none'),
  )
  assert re.search(r"method is one of \['fedpm', .*got 'none'", done.stderr)
  done = _run(tmp_path, installed / 'fedpm', 'report')
  assert done.stderr.startswith('error: Give folders of runs, or one of')


def test_the_console_script_knows_its_programs(installed, tmp_path):
  assert 'usage: fedpm' in _run(tmp_path, installed / 'fedpm').stdout
  done = _run(tmp_path, installed / 'fedpm', 'trian')
  assert done.returncode == 1
  assert "there is no program 'trian'" in done.stderr
  assert 'did you mean train?' in done.stderr
  for program in ('train', 'sweep', 'report'):
    shown = _run(tmp_path, installed / 'fedpm', program, '--help')
    assert shown.returncode == 0
    assert '--config=' in shown.stdout


def _imported(*folders):
  """Names of the modules, without the dots, that some code imports."""
  for folder in folders:
    for path in (ROOT / folder).rglob('*.py'):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
          yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
          yield (node.module or '').partition('.')[0]


def _name(requirement):
  return re.split(r'[\[<>=~ ]', requirement)[0].lower().replace('_', '-')


def test_every_import_is_declared():
  """And every declared distribution is imported."""
  project = PROJECT['project']
  declared = {_name(line) for line in project['dependencies']}
  extras = {_name(line) for line in project['optional-dependencies']['flower']}
  homes = importlib.metadata.packages_distributions()
  names = set(_imported('fedpm_jax', 'configs')) - set(sys.stdlib_module_names)
  used = {
    name: {home.lower().replace('_', '-') for home in homes.get(name, [])}
    for name in names - {'fedpm_jax'}
  }
  for name, distributions in used.items():
    assert distributions & (declared | extras), (
      f'{name} is imported and not declared'
    )
  unused = declared - set().union(*used.values())
  assert unused <= {'pillow'}, unused  # reads images for tensorflow-datasets


def test_every_folder_is_packaged():
  listed = set(PROJECT['tool']['setuptools']['packages'])
  folders = {
    '.'.join(path.parent.relative_to(ROOT).parts)
    for path in (ROOT / 'fedpm_jax').rglob('*.py')
  }
  folders |= {
    '.'.join(('fedpm_jax', *path.parent.relative_to(ROOT).parts))
    for path in (ROOT / 'configs').rglob('*.py')
  }
  assert listed == folders


def test_the_citation_names_this_version():
  assert PROJECT['project']['version'] == fp.__version__
  text = (ROOT / 'CITATION.cff').read_text()
  assert f'version: {fp.__version__}' in text
  assert f'## [{fp.__version__}]' in (ROOT / 'CHANGELOG.md').read_text()
