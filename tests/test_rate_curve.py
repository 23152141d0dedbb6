"""The picture of accuracy against bits: the right runs on the right line."""

import fake_runs
import pytest

from fedpm_jax.experiments import config_files, sweeps


@pytest.fixture
def rate_curve(monkeypatch):
  monkeypatch.syspath_prepend('benchmarks')
  import rate_curve

  return rate_curve


def names():
  runs = sweeps.read(config_files.find('rate', 'sweeps'))
  return list(dict.fromkeys(run.labels['method'] for run in runs))


def folder_of_runs(folder):
  """Row i has accuracies (.5 + i / 100, .6 + i / 100) by seed, 10 i + 8 bytes."""
  for i, name in enumerate(names()):
    for seed in (100, 101):
      late = 0.5 + i / 100 + (seed - 100) / 10
      fake_runs.write(
        folder,
        {'data': 'digits', 'method': name, 'seed': str(seed)},
        [0.1, late - 0.1, late, late + 0.1],
        uplink=[8 + 10 * i] * 4,
        downlink=[80 + i] * 4,
      )


def test_every_run_but_the_default_is_on_one_line(rate_curve):
  rows = {name: i for i, name in enumerate(names())}
  seen = [
    row
    for way in rate_curve.WAYS
    for row in rate_curve.points(rows, way).values()
    if row != rows['fedpm']
  ]
  assert sorted(seen) == list(range(1, len(rows)))
  assert list(rate_curve.points(rows, 'price')) == [
    *('0', '4', '12', '40', '120')
  ]
  assert list(rate_curve.points(rows, 'rate')) == [
    '0.06',
    '0.12',
    '0.25',
    '0.5',
  ]


def test_the_table_has_means_of_the_last_evaluations(
  rate_curve, tmp_path, monkeypatch, capsys
):
  folder_of_runs(tmp_path / 'runs')
  out = tmp_path / 'out'
  arguments = ['rate_curve.py', str(tmp_path / 'runs'), str(out)]
  monkeypatch.setattr(rate_curve.sys, 'argv', arguments)
  rate_curve.main()
  table = (out / 'curve.md').read_text()
  assert table in capsys.readouterr().out
  assert len(table.splitlines()) == 2 + len(names())
  # Of 1000 parameters and 2 clients, 8 B are 0.032 bits; std of .5 and .6.
  assert '| `fedpm` | 0.550 +- 0.071 | 0.0320 +- 0.0000 | 0.320' in table
  for suffix, magic in (('png', b'\x89PNG'), ('pdf', b'%PDF')):
    assert (out / f'curve.{suffix}').read_bytes().startswith(magic)


def test_without_the_default_it_says_so(rate_curve, tmp_path, monkeypatch):
  fake_runs.write(
    tmp_path,
    {'data': 'digits', 'method': 'fedpm_rate_0.5', 'seed': '100'},
    [0.1, 0.2, 0.3],
    uplink=[8] * 3,
    downlink=[8] * 3,
  )
  arguments = ['rate_curve.py', str(tmp_path), str(tmp_path / 'out')]
  monkeypatch.setattr(rate_curve.sys, 'argv', arguments)
  with pytest.raises(SystemExit, match="no finished run of 'fedpm'"):
    rate_curve.main()
