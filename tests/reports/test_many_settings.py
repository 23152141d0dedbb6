"""A sweep with more settings than a picture has room for."""

import csv
import logging

import fake_runs
import pytest

from fedpm_jax.reports import (
  comparison_plots,
  comparison_tables,
  style,
  sweep_runs,
)

SETTINGS = 130


@pytest.fixture(scope='module')
def groups(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sweep')
  for i in range(SETTINGS):
    labels = {'data': 'digits', 'method': 'a', 'split': f's{i}', 'seed': '0'}
    accuracy = (i + 10) / 200
    fake_runs.write(folder, labels, [accuracy], uplink=[250], downlink=[500])
  return sweep_runs.read(folder)


def test_pictures_show_the_first_settings_and_say_so(
  groups, tmp_path, monkeypatch, caplog
):
  """All of them would take minutes and gigabytes."""
  drawn = []
  for name in ('_points', '_curves'):
    note = lambda groups, *_: drawn.append(groups)
    monkeypatch.setattr(comparison_plots, name, note)
  monkeypatch.setattr(style, 'save_both', lambda figure, stem: [])
  with caplog.at_level(logging.WARNING, 'absl'):
    comparison_plots.draw(groups, tmp_path)
  most = comparison_plots.MAX_SETTINGS
  assert drawn
  assert all(part == groups[:most] for part in drawn)
  assert 'first 24 of 130 settings' in caplog.text
  caplog.clear()
  comparison_plots.draw(groups[:most], tmp_path)
  assert not caplog.text


def test_tables_have_all_settings(groups, tmp_path):
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
