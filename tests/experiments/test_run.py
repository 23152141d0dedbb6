"""Whole runs: files, resuming after any death, and errors of one line."""

import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fedpm_jax as fp
from fedpm_jax import cli
from fedpm_jax.experiments import codec_report
from fedpm_jax.experiments import config as configs
from fedpm_jax.protocol import model_file
from fedpm_jax.reports import records
from fedpm_jax.system import files

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {
  'rounds': 4,
  'num_clients': 3,
  'clients_per_round': 2,
  'local_epochs': 1,
  'batch_size': 16,
  'model': 'conv2',
  'weights.gain': 1.5,  # both sides: the command's default is digits.py
  'optimizer.learning_rate': 0.1,
  'adam.b1': 0.9,
  'data.max_examples': 20,
  'checkpoint.every': 1,
  'fedpm.persistent_optimizer': True,
  'evaluation.every': 2,
}


def small(**changes):
  config = configs.default()
  config.update_from_flattened_dict(SMALL | changes)
  return config


def command(workdir, *extra, **changes):
  flags = [f'--config.{k}={v}' for k, v in (SMALL | changes).items()]
  return [
    sys.executable,
    '-m',
    'fedpm_jax.train',
    f'--workdir={workdir}',
    *flags,
    *extra,
  ]


def outcome(workdir):
  """What must be the same: all metrics but times, and the model's bytes."""
  rows = [
    {k: v for k, v in row.items() if not k.startswith('time/')}
    for row in records.read_rows(workdir / 'metrics.jsonl')
  ]
  model = (workdir / 'model.fedpm').read_bytes()
  return rows, hashlib.sha256(model).hexdigest()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run from beginning to end, without an accident."""
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  summary = fp.train(small(), workdir)
  return workdir, summary


def test_a_run_leaves_its_files(whole):
  workdir, summary = whole
  assert {path.name for path in workdir.iterdir()} == {
    'metrics.jsonl',
    'summary.json',
    'config.json',
    'model.fedpm',
    'curves.png',
    'partition.png',
    'symbols',
    'checkpoints',
  }
  rows = records.read_rows(workdir / 'metrics.jsonl')
  assert [row['round_idx'] for row in rows] == [0, 1, 2, 3]
  of_dense = {'server/step_norm', 'server/agreement'}
  assert set(rows[-1]) == set(records.UNITS) - of_dense
  assert ['eval/accuracy_mean' in row for row in rows] == [
    False,
    True,
    False,
    True,
  ]
  assert json.loads((workdir / 'summary.json').read_text()) == files.to_json(
    summary
  )
  assert summary['last'] == rows[-1]
  assert summary['model']['bytes'] == (workdir / 'model.fedpm').stat().st_size
  assert (workdir / 'curves.png').read_bytes()[:4] == b'\x89PNG'


def test_metered_bits_are_the_bytes(whole):
  workdir, summary = whole
  d = summary['model']['num_parameters']
  for row in records.read_rows(workdir / 'metrics.jsonl'):
    for way in ('uplink', 'downlink'):
      assert row[f'{way}/bpp_wire'] == 8 * row[f'{way}/bytes'] / (2 * d)
  total = sum(
    r['uplink/bytes'] for r in records.read_rows(workdir / 'metrics.jsonl')
  )
  assert summary['total']['uplink/bytes'] == total


def test_exported_model_is_the_seed_and_a_mask(whole):
  workdir, _ = whole
  model = model_file.load(workdir / 'model.fedpm')
  assert model.spec.model == 'conv2'
  assert model(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 10)


def test_a_finished_run_is_left_alone(whole, capsys):
  workdir, summary = whole
  before = {p: p.stat().st_mtime_ns for p in workdir.iterdir() if p.is_file()}
  again = fp.train(small(), workdir, verbose=True)
  assert files.to_json(again) == files.to_json(summary)
  assert 'finished: nothing to do' in capsys.readouterr().out
  assert before == {
    p: p.stat().st_mtime_ns for p in workdir.iterdir() if p.is_file()
  }


def test_another_config_in_the_same_folder_is_an_error(whole):
  workdir, _ = whole
  before = outcome(workdir)
  with pytest.raises(ValueError, match='batch_size: 16 there, 17 here'):
    fp.train(small(batch_size=17), workdir)
  assert outcome(workdir) == before


def test_two_rounds_and_two_more_are_four(whole, tmp_path, monkeypatch):
  """Dies in the middle of round 2, in Python, with nothing cleaned up."""
  cohort = fp.Experiment.cohort

  def die(experiment, round_idx):
    if round_idx == 2:
      raise KeyboardInterrupt
    return cohort(experiment, round_idx)

  monkeypatch.setattr(fp.Experiment, 'cohort', die)
  with pytest.raises(KeyboardInterrupt):
    fp.train(small(), tmp_path / 'run')
  monkeypatch.undo()
  fp.train(small(), tmp_path / 'run')
  assert outcome(tmp_path / 'run') == outcome(whole[0])


def _wait_for(path, lines):
  deadline = time.time() + 120
  while time.time() < deadline:
    if path.exists() and path.read_text().count('\n') >= lines:
      return
    time.sleep(0.02)
  raise AssertionError(f'{path} did not come to {lines} lines.')


def test_kill_9_and_the_same_command_end_alike(whole, tmp_path):
  workdir = tmp_path / 'run'
  with subprocess.Popen(command(workdir), cwd=ROOT) as process:
    _wait_for(workdir / 'metrics.jsonl', 2)
    process.kill()
  assert process.returncode == -signal.SIGKILL
  subprocess.run(command(workdir), cwd=ROOT, check=True)
  assert outcome(workdir) == outcome(whole[0])


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_first(tmp_path, number):
  workdir = tmp_path / 'run'
  # No checkpoint is due for a long time: the one that is found is the signal's.
  changes = {'rounds': 500, 'checkpoint.every': 400}
  with subprocess.Popen(
    command(workdir, **changes), cwd=ROOT, stderr=subprocess.PIPE, text=True
  ) as process:
    _wait_for(workdir / 'metrics.jsonl', 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
  assert process.returncode == 128 + number
  assert 'Stopped after round' in errors
  assert 'Traceback' not in errors
  done = len(records.read_rows(workdir / 'metrics.jsonl'))
  saved = [p.name for p in (workdir / 'checkpoints').iterdir()]
  assert saved == [str(done)]


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (
      ['--config.num_clients=2000', '--config.data.max_examples=0'],
      'error: .*1437.*2000',
    ),
    (['--config.no_such_key=1'], "config has no key 'no_such_key'"),
    (['--config.fedpm.lamda_0=1'], 'did you mean config.fedpm.lambda_0'),
    (['--config.lambda_0=1'], 'did you mean config.fedpm.lambda_0'),
    (['--config.sgd.momentum=0.9'], 'sgd, which this run does not use'),
    (['--config.data.partition=dirchlet'], "mean 'dirichlet'"),
    (['--confg=digits'], 'no flag --confg: did you mean --config'),
    (['--workdir'], '--workdir needs a value'),
    (['--config.rounds'], "expected an integer, got 'true'"),
    (['--config.rounds=none'], "expected an integer, got 'none'"),
    (['--config.rounds=many'], "config.rounds: expected an integer, got 'm"),
    (None, 'absent.py'),
    (['stray'], 'Unexpected arguments.*stray'),
    (
      ['--config.data.name=mnist', '--config.data.dir=nowhere'],
      'error: .*nowhere',
    ),
  ],
)
def test_a_users_mistake_is_one_clear_line(tmp_path, flags, message):
  if flags is None:
    arguments = [*command(tmp_path / 'run')[:4], '--config=absent.py']
  else:
    arguments = command(tmp_path / 'run', *flags)
  run = subprocess.run(
    arguments,
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {'HOME': str(tmp_path)},
  )
  assert run.returncode != 0
  assert len(run.stderr.splitlines()) == 1, run.stderr
  assert re.search(message, run.stderr, re.S), run.stderr
  assert not (tmp_path / 'run').exists()


def test_the_order_of_flags_does_not_matter():
  flags = cli.Flags(config='digits', workdir='')
  words = [
    ['--config.model=cnn'],
    ['--config', 'methods:qsgd'],
    ['--config.qsgd.levels', '3'],
    ['--config.fedavg.server_learning_rate=0.5'],
  ]
  configured = []
  for order in (words, words[::-1], words[2:] + words[:2]):
    argv = [word for pair in order for word in pair]
    arguments = cli.parse(argv, flags, '')
    configured.append(configs.to_dict(cli.configuration(arguments).config))
  assert configured[0] == configured[1] == configured[2]
  assert configured[0]['model'] == 'cnn'
  assert configured[0]['qsgd'] == {'levels': 3, 'bucket': 512}
  assert configured[0]['fedavg'] == {'server_learning_rate': 0.5}


def test_list_shows_every_key_with_its_meaning(capsys):
  cli_train = [sys.executable, '-m', 'fedpm_jax.train', '--list']
  cli_train += ['--config.rounds=77']
  shown = subprocess.run(
    cli_train, cwd=ROOT, capture_output=True, text=True, check=True
  ).stdout
  for path, option in configs.every_key().items():
    (line,) = re.findall(rf'^--config\.{re.escape(path)} .*$', shown, re.M)
    assert option.kind.__name__ in line
    assert option.meaning, path
    assert line.endswith(option.meaning)
  assert re.search(r'rounds +int +77 ', shown)
  assert re.search(r'adam\.b1 +float +0\.3 ', shown)  # of digits.py


def test_the_program_is_the_function_too():
  """Importing the program must not take `fp.train` away."""
  import fedpm_jax.train as program

  assert fp.train is program or fp.train.__name__ == 'train'
  with pytest.raises(ValueError, match=r'config\.rounds must be at least 1'):
    program(small(rounds=0), 'nowhere')
  with pytest.raises(ValueError, match=r'config\.rounds must be at least 1'):
    fp.train(small(rounds=0), 'nowhere')


def test_divergence_keeps_the_last_checkpoint(tmp_path):
  config = small(**{'optimizer.name': 'sgd', 'optimizer.learning_rate': 1e30})
  config.weights.gain = 1e30
  with pytest.raises(FloatingPointError, match='Round 1'):
    fp.train(config, tmp_path / 'run')
  assert not list((tmp_path / 'run' / 'checkpoints').iterdir())


def test_report_compares_codecs_on_the_masks_of_a_run(whole):
  workdir, _ = whole
  table = codec_report.compare_codecs(workdir)
  rows = (workdir / 'bits.csv').read_text().splitlines()
  assert rows[0].startswith('round_idx,direction,codec,real,ideal')
  assert len(rows) == 1 + 8  # one round was kept, the last
  real = {line.split(',')[2]: float(line.split(',')[3]) for line in rows[1:]}
  last = records.read_rows(workdir / 'metrics.jsonl')[-1]
  assert real['dither'] == last['uplink/bpp_wire']
  assert f'{real["prior"]:.4f}' in table
  assert (workdir / 'bits.png').read_bytes().startswith(b'\x89PNG')


def test_report_of_a_folder_without_masks_is_one_line(tmp_path):
  result = subprocess.run(
    [sys.executable, '-m', 'fedpm_jax.report', f'--bits={tmp_path}'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 1
  assert result.stderr.startswith(f'error: {tmp_path} keeps no symbols')
  assert len(result.stderr.splitlines()) == 1
