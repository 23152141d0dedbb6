"""What a run tells of itself for its pictures, and that it costs no number."""

import numpy as np
import pytest
from whole_runs import small

import fedpm_jax as fp
from fedpm_jax.reports import history, records


def test_a_run_tells_its_labels_its_theta_and_its_bits(whole):
  workdir, summary = whole
  run = fp.Experiment(small())
  found = history.read(workdir / history.NAME)
  counts = found['labels']['counts']
  assert [sum(row) for row in counts] == [len(x) for x in run.client_examples]
  for row, examples in zip(counts, run.client_examples, strict=True):
    labels = run.dataset.y_train[examples]
    assert row == np.bincount(labels, minlength=10).tolist()
  assert [entry['rounds_done'] for entry in found['theta']] == [0, 1, 2, 3, 4]
  assert found['theta'][0]['layers'] == history.by_layer(run.theta())
  run.set_state(*run.saved_state(workdir)[:2])
  assert found['theta'][-1]['layers'] == history.by_layer(run.theta())
  sizes = found['bits']['sizes']
  assert sum(sizes) == summary['model']['num_parameters']
  row = records.read_rows(workdir / 'metrics.jsonl')[-1]
  ideal = sum(found['bits']['uplink']) / sum(sizes)
  # A message has a header and tables besides, and here it is short.
  assert 0.8 * row['uplink/bpp_wire'] < ideal < 1.02 * row['uplink/bpp_wire']
  assert len(found['bits']['downlink']) == len(sizes)


def test_a_run_that_died_ends_with_the_same_history(
  whole, tmp_path, monkeypatch
):
  cohort = fp.Experiment.cohort

  def die(experiment, round_idx):
    if round_idx == 3:
      raise KeyboardInterrupt
    return cohort(experiment, round_idx)

  monkeypatch.setattr(fp.Experiment, 'cohort', die)
  with pytest.raises(KeyboardInterrupt):
    fp.train(small(), tmp_path / 'run')
  monkeypatch.undo()
  fp.train(small(), tmp_path / 'run')
  path = tmp_path / 'run' / history.NAME
  assert path.read_bytes() == (whole[0] / history.NAME).read_bytes()


def test_weights_have_no_theta_and_no_masks(tmp_path):
  changes = {
    'rounds': 1,
    'algorithm': 'fedavg',
    'wire.compressor': 'identity',
    'wire.uplink': 'raw',
    'wire.downlink': 'raw',
  }
  config = fp.config()
  config.update_from_flattened_dict(
    {
      'num_clients': 2,
      'clients_per_round': 2,
      'local_epochs': 1,
      'model': 'cnn',
      'data.max_examples': 16,
    }
    | changes
  )
  fp.train(config, tmp_path / 'run')
  found = history.read(tmp_path / 'run' / history.NAME)
  assert found['theta'] == []
  assert found['bits'] is None
  assert found['labels']['clients'] == 2
