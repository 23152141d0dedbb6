"""The record: valid JSON, whole files, and continuing after a crash."""

import contextlib
import json
import re

import fake_runs
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.reports import records
from fedpm_jax.system import files, reading

ROW = {
  'train/loss': 2.5,
  'uplink/bytes': 250,
  'uplink/bpp_wire': 1.0,
  'downlink/bytes': 125,
  'downlink/bpp_wire': 0.5,
  'time/round_s': 0.1,
}


def line(round_idx, **changes):
  return json.dumps({'round_idx': round_idx, **ROW, **changes}) + '\n'


def content(*rows):
  """Of a metrics.jsonl: a row of that round for a number, or the text."""
  lines = (x if isinstance(x, str) else line(x) for x in rows)
  return ''.join(lines).encode()


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
  assert json.loads(path.read_bytes()) == {'a': 1}
  assert [p.name for p in tmp_path.iterdir()] == ['x.json']


def _record(path, first, last):
  recorder = records.Recorder(path, records.good_rows(path)[:first])
  for t in range(first, last):
    recorder.append({'round_idx': t, **ROW, 'train/loss': np.float32(t)})
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
  path.write_bytes(path.read_bytes() + b'{"round_idx": 3, "tr')
  assert len(records.read_rows(path)) == 3
  assert len(_record(path, 3, 4)) == 4


def test_rows_are_appended_to_whole_lines_only(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  for end in (b'', b'\n', b'\n{"round_idx": 2, "tr'):
    path.write_bytes(content(0, 1).rstrip(b'\n') + end)
    assert len(_record(path, 2, 3)) == 3
    assert path.read_bytes().count(b'\n') == 3
    assert len(records.read_rows(path)) == 3


# What a line 2 of another file may be, and what is said of it.
DAMAGES = [
  ('5\n', 'it must be an object, got 5'),
  ('[]\n', r'it must be an object, got \[\]'),
  ('{}\n', "it has no field 'round_idx'"),
  ('null\n', 'it must be an object, got None'),
  ('\n', 'it is no JSON'),
  ('{"rou\n', 'it is no JSON'),
  ('\0' * 100, 'it is no JSON'),
  ('{"round_idx": 1}\n', "it has no field 'uplink/bytes'"),
  (line('1'), "round_idx must be an integer from 0 to .*, got '1'"),
  (line(-1), 'round_idx must be an integer from 0 to .*, got -1'),
  (line(True), 'round_idx must be an integer from 0 to .*, got True'),
  (line(0), 'round_idx must be 1, a line for every round .*, got 0'),
  (line(2), 'round_idx must be 1, a line for every round .*, got 2'),
  (line(1, **{'train/loss': 'x'}), 'train/loss must be a finite number or'),
  (line(1, **{'train/loss': [1]}), 'train/loss must be a finite number or'),
  (line(1, **{'uplink/bytes': None}), 'uplink/bytes must be an integer from'),
  (line(1, **{'uplink/bytes': 10**400}), 'uplink/bytes must be an integer fr'),
  (line(1, **{'uplink/bpp_wire': None}), 'uplink/bpp_wire must be a finite'),
  (line(1, **{'eval/accuracy_mean': None}), r'accuracy_mean.*in \[0, 1\]'),
  (
    line(1, **{'eval/accuracy_mean': 1, 'eval/accuracy_new': 1.5}),
    r'accuracy_new.* \[0, 1\], got 1\.5',
  ),
  (
    line(1, **{'eval/accuracy_mean': 1, 'eval/client_accuracy_mean': -0.5}),
    r'client_accuracy_mean.* \[0, 1\], got -0\.5',
  ),
  (line(1, **{'eval/loss_mean': 1.5}), "no field 'eval/accuracy_mean'"),
  (line(1).replace('2.5', 'NaN'), 'NaN is no JSON'),
]


EACH_DAMAGE = pytest.mark.parametrize(
  ('damage', 'message'), DAMAGES, ids=[message for _, message in DAMAGES]
)


@EACH_DAMAGE
def test_any_other_line_is_an_error_that_names_it(tmp_path, damage, message):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(content(0, damage, 2))
  with pytest.raises(reading.FileError) as caught:
    records.read_rows(path)
  name = re.escape(str(path))
  assert re.match(f'{name}:2: .*{message}.*Start the run', str(caught.value))
  assert [row['round_idx'] for row in records.good_rows(path)] == [0]


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (b'\xff\xfe' * 50, ':1: it is no UTF-8 text'),
    (bytes(4096), ':1: it is no JSON'),
    (b'{' + b' ' * 2**20, ':1: it has more than 1,048,576 bytes'),
    (None, r': it cannot be read \(Is a directory\)'),
  ],
  ids=['no UTF-8', 'NUL', 'huge line', 'folder'],
)
def test_a_file_of_something_else(tmp_path, damage, message):
  path = tmp_path / 'metrics.jsonl'
  if damage is None:
    path.mkdir()
  else:
    path.write_bytes(damage)
  with pytest.raises(reading.FileError, match=rf'metrics\.jsonl{message}'):
    records.read_rows(path)
  assert records.good_rows(path) == []


def test_no_file_has_no_rows(tmp_path):
  assert records.read_rows(tmp_path / 'metrics.jsonl') == []
  assert records.good_rows(tmp_path / 'metrics.jsonl') == []


pieces = st.one_of(
  st.integers(0, 3).map(lambda i: line(i).encode()),
  st.sampled_from([x.encode() for x, _ in DAMAGES]),
  st.binary(max_size=20),
)


@given(st.lists(pieces, max_size=6), st.integers(0, 500))
def test_any_bytes_are_good_rows_or_an_error(tmp_path_factory, parts, cut):
  path = tmp_path_factory.getbasetemp() / 'metrics.jsonl'
  path.write_bytes(b''.join(parts)[: -cut or None])
  good = records.good_rows(path)
  for i, row in enumerate(good):
    assert row['round_idx'] == i
    assert row.keys() >= {'uplink/bytes', 'downlink/bytes', 'time/round_s'}
    assert all(x is None or np.isfinite(x) for x in row.values())
  try:
    found = records.read_rows(path)
  except reading.FileError as error:
    found = good
    assert str(error).startswith(f'{path}:{len(good) + 1}: ')  # noqa: PT017
  assert found == good
  rows = _record(path, len(good), len(good) + 1)
  assert rows[:-1] == good
  assert records.read_rows(path) == rows


def test_a_checksum_of_rows_changes_with_every_value(tmp_path):
  rows = [fake_runs.row(i, 0.5, 10, 10) for i in range(3)]
  whole = records.checksum(rows)
  path = tmp_path / 'metrics.jsonl'
  with contextlib.closing(records.Recorder(path, [])) as recorder:
    for row in rows:
      recorder.append(row)
  assert records.checksum(recorder.rows) == recorder.mark.crc32 == whole
  assert recorder.mark.size == path.stat().st_size
  with contextlib.closing(records.Recorder(path, rows[:2])) as recorder:
    assert recorder.mark.crc32 == records.checksum(rows[:2])
    recorder.append(rows[2])
    assert recorder.mark.crc32 == whole
  assert records.checksum(records.read_rows(path)) == whole
  assert records.checksum(rows[:2]) != whole
  for i, row in enumerate(rows):
    for name, value in row.items():
      changed = list(rows)
      changed[i] = row | {name: value + 1}
      assert records.checksum(changed) != whole
