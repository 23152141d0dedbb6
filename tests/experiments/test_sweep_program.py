"""The program `fedpm sweep`, from its command line to its files."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def command(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'fedpm_jax.sweep', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (None, 'error: There is no configuration '),
    ('get_config = None', 'has no function get_sweep() -> list[sweeps.Run].'),
    ('get_sweep = lambda: []', 'error: The sweep has no runs'),
  ],
)
def test_a_users_mistake_is_one_line(tmp_path, text, message):
  path = tmp_path / 'mine.py'
  if text is not None:
    path.write_text(text)
  done = command(f'--config={path}', f'--workdir={tmp_path / "runs"}')
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert message in line
  assert not (tmp_path / 'runs').exists()


SWEEP = """
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import sweeps


def get_sweep():
  runs = []
  for name, data in (('fedpm', 'digits'), ('lost', 'nowhere')):
    config = configs.default()
    config.update_from_flattened_dict({
      'rounds': 1,
      'num_clients': 2,
      'clients_per_round': 2,
      'local_epochs': 1,
      'batch_size': 8,
      'model': 'cnn',
      'data.max_examples': 8,
      'data.name': data,
    })
    labels = {'data': 'digits', 'method': name, 'seed': '0'}
    runs.append(sweeps.Run(labels, config))
  return runs
"""


def test_the_command_from_beginning_to_end(tmp_path):
  path, workdir = tmp_path / 'mine.py', tmp_path / 'runs'
  path.write_text(SWEEP)
  done = command(f'--config={path}', f'--workdir={workdir}')
  assert done.returncode == 1
  last = done.stderr.splitlines()[-1]
  assert last.startswith('failed: digits/lost/seed_0: DataNotFound: ')
  summary = json.loads(
    (workdir / 'digits/fedpm/seed_0/summary.json').read_text()
  )
  accuracy = summary['last']['eval/accuracy_mean']
  assert f'accuracy {accuracy:.4f}' in done.stdout
  log = (workdir / 'digits/fedpm/seed_0/log.txt').read_text()
  assert 'model.fedpm' in log
  names = ['digits/fedpm/seed_0', 'digits/lost/seed_0']
  assert json.loads((workdir / 'sweep.json').read_text()) == names
  done = command(
    f'--config={path}', f'--workdir={workdir}', '--only=method=fedpm'
  )
  assert done.returncode == 0, done.stderr
  assert '1 were finished before, 0 now, 0 failed' in done.stdout
