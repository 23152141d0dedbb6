"""The record: valid JSON, whole files, and continuing after a crash."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from fedpm_jax.reports import records
from fedpm_jax.system import files


def test_numbers_of_every_kind_become_json():
  value = {
    'a': np.float32(0.5),
    'b': jnp.int32(3),
    'c': float('nan'),
    'd': [np.float64('inf'), (1, np.bool_(True))],
    5: None,
  }
  assert json.loads(json.dumps(files.to_json(value), allow_nan=False)) == {
    'a': 0.5,
    'b': 3,
    'c': None,
    'd': [None, [1, True]],
    '5': None,
  }


def test_write_leaves_the_old_file_where_it_fails(tmp_path, monkeypatch):
  path = tmp_path / 'x.json'
  files.write_json(path, {'a': 1})

  def fail(_):
    raise OSError('disk full')

  monkeypatch.setattr(files.os, 'fsync', fail)
  with pytest.raises(OSError, match='disk full'):
    files.write_json(path, {'a': 2})
  assert json.loads(path.read_text()) == {'a': 1}
  assert [p.name for p in tmp_path.iterdir()] == ['x.json']


def _record(path, first, last):
  recorder = records.Recorder(path, next_round=first)
  for t in range(first, last):
    recorder.append({'round_idx': t, 'train/loss': np.float32(t)})
  recorder.close()
  return recorder.rows


def test_recorder_drops_the_rounds_that_run_again(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  _record(path, 0, 5)
  rows = _record(path, 3, 6)
  assert [row['round_idx'] for row in rows] == [0, 1, 2, 3, 4, 5]
  assert records.read_rows(path) == rows


def test_a_torn_last_line_is_left_out(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  _record(path, 0, 3)
  path.write_text(path.read_text() + '{"round_idx": 3, "tr')
  assert len(records.read_rows(path)) == 3
  assert len(_record(path, 3, 4)) == 4


def test_damage_elsewhere_is_an_error(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"round_idx": 0}\n{"rou\n{"round_idx": 2}\n')
  with pytest.raises(ValueError, match=r'metrics\.jsonl:2 is not JSON'):
    records.read_rows(path)


def test_a_missing_round_is_an_error(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  _record(path, 0, 2)
  with pytest.raises(ValueError, match=r'rounds 0 to 3.*got 2 rows'):
    records.Recorder(path, next_round=4)
