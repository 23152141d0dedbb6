"""Whole runs: what they leave behind."""

import datetime
import json

import numpy as np
import pytest
from whole_runs import small

import fedpm_jax as fp
from fedpm_jax import masks
from fedpm_jax.protocol import model_file
from fedpm_jax.reports import records, style
from fedpm_jax.reports import summary as summaries
from fedpm_jax.system import files, lock, provenance

OF_SEVERAL_MASKS = {
  f'eval/accuracy_{name}'
  for name in ('sampled_mean', 'sampled_std', 'vote', 'ensemble')
}
OF_REAL_CLIENTS = {
  name
  for name in records.UNITS
  if name.startswith(('federation/', 'privacy/', 'robust/'))
}


def test_a_run_leaves_its_files(whole):
  workdir, summary = whole
  assert {path.name for path in workdir.iterdir()} == {
    'metrics.jsonl',
    'summary.json',
    'config.json',
    'model.fedpm',
    'curves.png',
    'partition.png',
    'history.json',
    'starts.jsonl',
    'symbols',
    'checkpoints',
    lock.NAME,
  }
  rows = records.read_rows(workdir / 'metrics.jsonl')
  assert [row['round_idx'] for row in rows] == [0, 1, 2, 3]
  of_dense = {'server/step_norm', 'server/agreement'}
  others = of_dense | OF_SEVERAL_MASKS | OF_REAL_CLIENTS
  assert set(rows[-1]) == set(records.UNITS) - others
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


def test_several_masks_are_more_columns_and_change_no_other(whole):
  rows = list(fp.Experiment(small(**{'evaluation.masks': 3})).rounds())
  others = records.read_rows(whole[0] / 'metrics.jsonl')
  for row, other in zip(rows, others, strict=True):
    evaluated = 'eval/accuracy_mean' in other
    assert set(row) - set(other) == (OF_SEVERAL_MASKS if evaluated else set())
    assert {k: row[k] for k in other if k in row and 'time' not in k} == {
      k: v for k, v in other.items() if 'time' not in k
    }
    if evaluated:
      assert 0 < row['eval/accuracy_sampled_std'] < 0.5


def test_accuracy_by_client_is_that_of_its_own_labels():
  changes = {'rounds': 1, 'data.partition': 'c_max', 'evaluation.masks': 2}
  run = fp.Experiment(small(**changes))
  (row,) = run.rounds()
  network = run.engine.method.network
  flat = np.concatenate([x.ravel() for x in run.mean_parameters().values()])
  logits = network.apply(
    masks.unravel(network.layout, flat), run.dataset.x_test
  )
  hits = np.argmax(logits, axis=1) == run.dataset.y_test
  of_clients = []
  for examples in run.client_examples:
    labels = run.dataset.y_train[examples]
    of_label = [hits[run.dataset.y_test == label].mean() for label in labels]
    of_clients.append(np.mean(of_label))
  assert np.std(of_clients) > 0.01
  assert row['eval/client_accuracy_mean'] == pytest.approx(np.mean(of_clients))
  assert row['eval/client_accuracy_worst_tenth'] == pytest.approx(
    min(of_clients)
  )


@pytest.mark.parametrize(
  ('share', 'on', 'other'),
  [(0.0, 'test', 'validation'), (0.25, 'validation', 'test')],
)
def test_a_run_says_which_set_its_accuracies_are_of(
  tmp_path, monkeypatch, share, on, other
):
  drawn, save = [], style.save
  monkeypatch.setattr(
    style,
    'save',
    lambda figure, path: (save(figure, path), drawn.append(figure)),
  )
  changes = {'rounds': 1, 'data.validation': share}
  summary = fp.train(small(**changes), tmp_path / 'run')
  assert summary['evaluated_on'] == on
  assert summaries.read(tmp_path / 'run' / 'summary.json') == summary
  table = summaries.table(summary)
  assert ('validation set' in table.splitlines()[1]) == (share > 0)
  assert ('no test accuracies' in table) == (share > 0)
  labels = {axis.get_ylabel() for axis in drawn[0].axes}
  assert f'{on} accuracy' in labels
  assert f'{other} accuracy' not in labels


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


def test_a_finished_run_is_left_alone_and_tells_its_table(whole, capsys):
  workdir, summary = whole
  kept = lambda: {
    p: p.stat().st_mtime_ns
    for p in workdir.iterdir()
    if p.is_file() and p.name != lock.NAME
  }
  before = kept()
  again = fp.train(small(), workdir, verbose=True)
  assert files.to_json(again) == files.to_json(summary)
  told = capsys.readouterr().out
  assert f'{workdir} is finished.' in told
  assert summaries.table(summary) in told
  assert before == kept()


def test_a_summary_says_how_the_numbers_came_about(whole):
  _, summary = whole
  (start,) = summary['starts']
  assert start['command'] == provenance.command()
  assert start['rounds_done'] == 0
  assert start['commit'] == provenance.commit()
  age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(
    start['date']
  )
  assert datetime.timedelta() <= age < datetime.timedelta(hours=1)
  rows = records.read_rows(whole[0] / 'metrics.jsonl')
  totals = [row['time/total_s'] for row in rows]
  assert sum(row['time/round_s'] for row in rows) < totals[-1]
  assert totals == sorted(totals)
  assert totals[-1] < summary['time/total_s']
