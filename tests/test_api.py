"""What a notebook types: the README's ten lines, and what they may rely on."""

import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import small_runs

import fedpm_jax as fp
from fedpm_jax.reports import records
from fedpm_jax.system import machine

ROOT = pathlib.Path(__file__).parents[1]

LINES = """
import fedpm_jax as fp
config = fp.config('digits')
config.rounds = 10
run = fp.Experiment(config)
for row in run.rounds():
  print(row['eval/accuracy_mean'], row['uplink/bpp_wire'])
run.theta()
model = run.model();  model.save('model.fedpm');  fp.load('model.fedpm')(images)
fp.train(config, 'runs/mine')
"""


def test_the_ten_lines_run(tmp_path, monkeypatch, capsys):
  """As they stand, but for the size of what they train."""
  monkeypatch.chdir(tmp_path)
  config = small_runs.small()
  monkeypatch.setattr(fp, 'config', lambda name: config, raising=False)
  images = np.zeros((2, 8, 8, 1), np.uint8)
  lines = LINES.replace('config.rounds = 10', 'config.rounds = 2')
  exec(compile(lines, 'lines.py', 'exec'), {'images': images})
  printed = capsys.readouterr().out.splitlines()
  assert len(printed) == 2  # the loop's, and nothing that nobody asked for
  assert (tmp_path / 'runs/mine/summary.json').exists()
  rows = records.read_rows(tmp_path / 'runs/mine/metrics.jsonl')
  for line, row in zip(printed, rows, strict=True):
    assert line.split() == [
      str(row['eval/accuracy_mean']),
      str(row['uplink/bpp_wire']),
    ]


def test_importing_the_package_decides_nothing():
  """No JAX, no backend of Matplotlib, no signal handler, no output."""
  code = """
import signal, sys
before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
import fedpm_jax as fp
assert not {'jax', 'numpy', 'matplotlib'} & set(sys.modules)
assert set(fp.__all__) <= set(dir(fp))
for name in fp.__all__:
  assert getattr(fp, name) is not None, name
import matplotlib
matplotlib.use('svg')
from fedpm_jax.reports import plots
plots.warm_up()
assert matplotlib.get_backend() == 'svg'
after = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
assert before == after
try:
  fp.nothing
except AttributeError as error:
  assert 'nothing' in str(error)
"""
  done = subprocess.run(
    [sys.executable, '-W', 'error', '-c', code],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_a_round_that_failed_says_that_its_state_is_gone(monkeypatch):
  run = fp.Experiment(small_runs.small())
  saved = jax.device_get(run.state)
  expected = [row['train/loss'] for row in run.rounds()]
  run.set_state(saved, 0)
  monkeypatch.setattr(run.engine, 'finish', lambda *_: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    run.run_round()
  with pytest.raises(RuntimeError, match=r'Round 1 failed.* set_state\('):
    run.run_round()
  monkeypatch.undo()
  run.set_state(saved, 0)
  assert [row['train/loss'] for row in run.rounds()] == expected


def test_every_core_is_a_device_and_checks_start_nothing():
  """In a process of its own: the tests' devices are set by conftest.py."""
  code = """
import fedpm_jax as fp
from fedpm_jax.experiments import build, config
from fedpm_jax.system import machine
from jax._src import xla_bridge
for name in config.OPTIMIZERS:
  if name not in ('lbfgs', 'noisy_sgd', 'optimistic_adam'):
    settings = fp.config('digits')
    settings.optimizer.name = name
    build.check(settings)
assert not xla_bridge._backends, 'a check has started JAX'
run = fp.Experiment(fp.config('digits'))
import jax
assert len(jax.devices()) == machine.cores(), jax.devices()
print(run.engine.mesh.size)
"""
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) == min(machine.cores(), 10)


def test_weights_of_a_dense_method():
  run = fp.Experiment(
    small_runs.small(
      **{
        'algorithm': 'fedavg',
        'optimizer.learning_rate': 0.01,
        'wire.compressor': 'identity',
        'wire.uplink': 'raw',
        'wire.downlink': 'raw',
        'weights.kind': 'normal',
      }
    )
  )
  with pytest.raises(
    ValueError, match=r"'fedavg' trains weights .* mean_parameters\("
  ):
    run.theta()
  before = run.mean_parameters()
  list(run.rounds())
  after = run.mean_parameters()
  assert (before['conv_0/kernel'] != after['conv_0/kernel']).any()


def test_a_schedule_scales_the_steps():
  """One local step of SGD: the round's change is proportional to its rate."""
  changes = {
    'algorithm': 'fedavg',
    'num_clients': 1,
    'clients_per_round': 1,
    'data.max_examples': 8,
    'optimizer.name': 'sgd',
    'optimizer.learning_rate': 0.125,
    'wire.compressor': 'identity',
    'wire.uplink': 'raw',
    'wire.downlink': 'raw',
    'weights.kind': 'normal',
  }
  norms = {}
  for factor in (1.0, 0.5):
    run = fp.Experiment(
      small_runs.small(
        **changes
        | {
          'optimizer.schedule': 'step',
          'step.every': 1,
          'step.factor': factor,
        }
      )
    )
    start = jax.device_get(run.state.server)
    run.run_round()
    run.set_state(run.state._replace(server=start), 1)
    norms[factor] = run.run_round().metrics['server/step_norm']
  assert norms[0.5] == pytest.approx(norms[1.0] / 2, rel=1e-6)


def test_the_readme_shows_these_lines():
  text = (ROOT / 'README.md').read_text()
  shown = re.findall(r'```python\n(.*?)```', text, re.S)
  wanted = [line.split(';')[0].strip() for line in LINES.split('\n') if line]
  assert any(all(line in block for line in wanted) for block in shown)
