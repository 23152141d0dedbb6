"""A run goes on after any death, and ends as if nothing had happened."""

import json
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from whole_runs import ROOT, command, outcome, small

import fedpm_jax as fp
from fedpm_jax.experiments import checkpoint
from fedpm_jax.reports import plots, records


@pytest.mark.parametrize(
  ('name', 'damage', 'said'),
  [
    ('summary.json', pathlib.Path.unlink, ''),
    ('summary.json', lambda p: p.write_text('{'), 'summary.json'),
    ('model.fedpm', pathlib.Path.unlink, ''),
    ('model.fedpm', lambda p: p.write_bytes(b'FPMA'), 'model.fedpm is damaged'),
    ('curves.png', pathlib.Path.unlink, ''),
    ('config.json', lambda p: p.write_text('{}'), 'not that of config.json'),
    ('config.json', lambda p: p.write_text(''), 'config.json: it is no JSON'),
    ('config.json', pathlib.Path.unlink, ''),
    ('starts.jsonl', lambda p: p.write_text('5\n'), 'starts.jsonl:1'),
  ],
)
def test_what_follows_from_the_rest_of_a_finished_run_is_made_again(
  whole, tmp_path, caplog, name, damage, said
):
  workdir = tmp_path / 'run'
  shutil.copytree(whole[0], workdir)
  damage(workdir / name)
  if name == 'starts.jsonl':
    (workdir / 'summary.json').unlink()
  with caplog.at_level('WARNING', 'absl'):
    summary = fp.train(small(), workdir)
  assert outcome(workdir) == outcome(whole[0])
  for part in ('best', 'total', 'mean', 'model', 'config'):
    assert summary[part] == whole[1][part]
  assert said in caplog.text
  assert bool(said) == bool(caplog.text)
  for path in whole[0].iterdir():
    assert (workdir / path.name).exists()
  before = (workdir / 'summary.json').stat().st_mtime_ns
  fp.train(small(), workdir)
  assert (workdir / 'summary.json').stat().st_mtime_ns == before


@pytest.mark.parametrize(
  'damage',
  [
    pathlib.Path.unlink,
    lambda path: path.write_bytes(path.read_bytes()[:700]),
    lambda path: path.write_text('5\n'),
    lambda path: path.write_text(path.read_text().replace('1', '2')),
  ],
  ids=['gone', 'cut', 'no rows', 'other digits'],
)
def test_a_stopped_run_goes_on_whatever_became_of_its_rows(
  whole, tmp_path, damage
):
  workdir = tmp_path / 'run'
  with pytest.raises(fp.Stopped):
    fp.train(small(), workdir, stop=iter([False, True]).__next__)
  damage(workdir / 'metrics.jsonl')
  fp.train(small(), workdir)
  assert outcome(workdir) == outcome(whole[0])


def test_a_picture_that_fails_loses_no_run(tmp_path, monkeypatch, caplog):
  def fail(*args, **options):
    raise RuntimeError('no such font')

  monkeypatch.setattr(plots, 'curves', fail)
  fp.train(small(rounds=1), tmp_path / 'run')
  assert 'curves.png could not be drawn: no such font' in caplog.text
  names = {path.name for path in (tmp_path / 'run').iterdir()}
  assert {'summary.json', 'model.fedpm', 'partition.png'} <= names
  monkeypatch.undo()
  fp.train(small(rounds=1), tmp_path / 'run')  # which draws it
  assert (tmp_path / 'run' / 'curves.png').exists()


def test_rounds_may_grow_and_what_decides_no_number_may_change(
  whole, tmp_path, capsys
):
  workdir = tmp_path / 'run'
  fp.train(small(rounds=2), workdir)
  changes = {
    'evaluation.every': 1,
    'evaluation.batch_size': 77,
    'evaluation.masks': 2,
    'checkpoint.every': 3,
    'checkpoint.keep': 1,
    'execution.devices': 1,
    'wire.keep_every': 0,
  }
  summary = fp.train(small(**changes), workdir, verbose=True)
  assert f'{workdir} continues at round 3.' in capsys.readouterr().out
  rows, model = outcome(workdir)
  of_whole, model_of_whole = outcome(whole[0])
  assert model == model_of_whole
  for row, other in zip(rows, of_whole, strict=True):
    assert {k: row[k] for k in other if 'eval/loss' not in k} == {
      k: v for k, v in other.items() if 'eval/loss' not in k
    }
  assert [start['rounds_done'] for start in summary['starts']] == [0, 2]
  assert json.loads((workdir / 'config.json').read_text())['rounds'] == 4
  with pytest.raises(ValueError, match=r'rounds = 3, but .* rounds can only'):
    fp.train(small(rounds=3), workdir)
  assert outcome(workdir) == (rows, model)


def test_rounds_may_not_grow_where_the_rate_follows_a_schedule_over_them(
  tmp_path,
):
  scheduled = {'optimizer.schedule': 'cosine'}
  fp.train(small(rounds=1, **scheduled), tmp_path / 'run')
  with pytest.raises(ValueError, match='rounds: 1 there, 2 here'):
    fp.train(small(rounds=2, **scheduled), tmp_path / 'run')


def test_the_total_time_is_that_of_all_starts(whole, tmp_path):
  """Also that of rounds which were lost, as far as they were recorded."""
  workdir = tmp_path / 'run'
  shutil.copytree(whole[0], workdir)
  shutil.rmtree(workdir / 'checkpoints' / '4')
  path = workdir / 'metrics.jsonl'
  rows = records.read_rows(path)
  rows[-1]['time/total_s'] = 1000.0
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  summary = fp.train(small(), workdir)
  assert summary['time/total_s'] > 1000
  assert outcome(workdir) == outcome(whole[0])


def test_another_config_in_the_same_folder_is_an_error(whole):
  workdir, _ = whole
  before = outcome(workdir)
  with pytest.raises(ValueError, match='batch_size: 16 there, 17 here'):
    fp.train(small(batch_size=17), workdir)
  assert outcome(workdir) == before


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'seed': 1}, 'seed: 0 there, 1 here'),
    ({'rounds': 5}, 'holds a finished run of 4 rounds and no checkpoint'),
  ],
)
def test_a_finished_run_without_checkpoints_is_not_lost(
  whole, tmp_path, changes, message
):
  """They are most of a folder, and not needed any more."""
  workdir = tmp_path / 'run'
  shutil.copytree(whole[0], workdir)
  shutil.rmtree(workdir / 'checkpoints')
  assert fp.train(small(), workdir) == whole[1]
  with pytest.raises(ValueError, match=message):
    fp.train(small(**changes), workdir)
  assert outcome(workdir) == outcome(whole[0])


def test_masks_of_a_run_that_is_gone_are_gone(tmp_path):
  """Else report --bits would take them for masks of the new run."""
  kept = tmp_path / 'run' / 'symbols' / 'round_00000.npz'
  kept.parent.mkdir(parents=True)
  kept.touch()
  fp.train(small(rounds=1, seed=1, **{'wire.keep_every': 0}), tmp_path / 'run')
  assert not kept.exists()


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
  assert 'the same command continues from there' in errors
  assert 'Traceback' not in errors
  done = len(records.read_rows(workdir / 'metrics.jsonl'))
  saved = [p.name for p in (workdir / 'checkpoints').iterdir()]
  assert saved == [str(done)]


def test_rows_of_another_run_are_not_replaced(tmp_path, monkeypatch):
  """It was killed before its first checkpoint."""
  workdir = tmp_path / 'run'
  monkeypatch.setattr(checkpoint, 'is_due', lambda *_, **__: False)
  monkeypatch.setattr(fp.Experiment, 'evaluate', lambda _: {})

  def die(*_):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    fp.train(small(), workdir, stop=die)
  monkeypatch.undo()
  before = (workdir / 'metrics.jsonl').read_bytes()
  with pytest.raises(
    ValueError, match=r'seed: 0 there, 7 here.*delete this one'
  ):
    fp.train(small(seed=7), workdir)
  assert (workdir / 'metrics.jsonl').read_bytes() == before


def test_divergence_keeps_the_last_checkpoint(tmp_path):
  config = small(**{'optimizer.name': 'sgd', 'optimizer.learning_rate': 1e30})
  config.weights.gain = 1e30
  with pytest.raises(FloatingPointError, match='Round 1'):
    fp.train(config, tmp_path / 'run')
  assert not list((tmp_path / 'run' / 'checkpoints').iterdir())
