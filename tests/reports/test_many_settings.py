"""The tables of a sweep with more settings than a picture has room for."""

import csv

import fake_runs

from fedpm_jax.reports import comparison_tables, sweep_runs

SETTINGS = 130


def test_tables_of_many_settings(tmp_path):
  for i in range(SETTINGS):
    labels = {'data': 'digits', 'method': 'a', 'split': f's{i}', 'seed': '0'}
    accuracy = (i + 10) / 200
    fake_runs.write(tmp_path, labels, [accuracy], uplink=[250], downlink=[500])
  groups = sweep_runs.read(tmp_path)
  text, paths = comparison_tables.write(groups, tmp_path / 'out', {})
  with open(paths[0], encoding='utf-8') as file:
    rows = {row['split']: row for row in csv.DictReader(file)}
  assert len(rows) == SETTINGS
  for i in range(SETTINGS):
    assert f'## digits: split s{i}\n' in text
    found = float(rows[f's{i}']['accuracy_mean_network'])
    assert abs(found - (i + 10) / 200) < 1e-3
    assert rows[f's{i}']['uplink_bpp_wire'] == '1.0'
    assert rows[f's{i}']['downlink_bpp_wire'] == '2.0'
