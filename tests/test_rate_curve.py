"""Accuracy against bits: the right runs on the right line, or in the right row."""

import fake_runs
import pytest

from fedpm_jax.experiments import config_files, sweeps

SIZES = ('default', 'clients_5', 'clients_30', 'epochs_6', 'cnn', 'conv6')


@pytest.fixture
def rate_curve(monkeypatch):
  monkeypatch.syspath_prepend('benchmarks')
  import rate_curve

  return rate_curve


def names():
  runs = sweeps.read(config_files.find('rate', 'sweeps'))
  return list(dict.fromkeys(run.labels['method'] for run in runs))


def table_of(program, name, runs, out, monkeypatch, capsys):
  """The table that a program prints and writes."""
  monkeypatch.setattr(program.sys, 'argv', ['program', str(runs), str(out)])
  program.main()
  table = (out / name).read_text()
  assert table in capsys.readouterr().out
  return table


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
  table = table_of(
    rate_curve, 'curve.md', tmp_path / 'runs', out, monkeypatch, capsys
  )
  assert len(table.splitlines()) == 2 + len(names())
  # Of 1000 parameters and 2 clients, 8 B are 0.032 bits; std of .5 and .6.
  assert '| `fedpm` | 0.550 +- 0.071 | 0.0320 +- 0.0000 | 0.320' in table
  for suffix, magic in (('png', b'\x89PNG'), ('pdf', b'%PDF')):
    assert (out / f'curve.{suffix}').read_bytes().startswith(magic)


@pytest.fixture
def bit_price(rate_curve):
  import bit_price

  return bit_price


def _write_sizes(folder, skipped=()):
  """Size i has accuracy .3 + i / 10, less by .002 p at price p; bytes 1000 - p."""
  for run in sweeps.read(config_files.find('bit_price', 'sweeps')):
    labels = run.labels
    price = int(labels['method'].rsplit('_', 1)[1])
    size = SIZES.index(labels['size'])
    seed = int(labels['seed']) - 100
    if (labels['size'], price, seed) in skipped:
      continue
    fake_runs.write(
      folder,
      labels,
      [0.3 + (size + seed) / 10 - 0.002 * price] * 3,
      uplink=[1000 - price] * 3,
      downlink=[2 * (1000 - 2 * price)] * 3,
    )


def test_a_price_is_compared_with_none_at_the_same_size_and_seed(
  bit_price, tmp_path, monkeypatch, capsys
):
  _write_sizes(tmp_path / 'runs')
  runs, out = tmp_path / 'runs', tmp_path / 'out'
  table = table_of(bit_price, 'sizes.md', runs, out, monkeypatch, capsys)
  assert len(table.splitlines()) == 2 + 3 * len(SIZES)
  # Size 2, means of seeds 0 and 1.  Of 1000 parameters, 2 clients, 1000 B are 4.
  free = '| `clients_30` | 0 | 0.550 | +0.0 | 4.0000 | 1.00 | 8.000 | 1.00 |'
  dear = '| `clients_30` | 50 | 0.450 | -10.0 | 3.8000 | 0.95 | 7.200 | 0.90 |'
  assert free in table
  assert dear in table


def test_a_missing_run_ends_the_comparison(bit_price, tmp_path, monkeypatch):
  _write_sizes(tmp_path, skipped=[('cnn', 16, 1)])
  fake_runs.write(
    tmp_path,
    {
      'data': 'digits',
      'size': 'cnn',
      'method': 'fedpm_price_16',
      'seed': '101',
    },
    [0.5],
    uplink=[1],
    downlink=[1],
    finished=False,
  )
  arguments = ['bit_price.py', str(tmp_path), str(tmp_path / 'out')]
  monkeypatch.setattr(bit_price.sys, 'argv', arguments)
  with pytest.raises(
    SystemExit, match='cnn/fedpm_price_16/seed_101 is missing'
  ):
    bit_price.main()
  assert not (tmp_path / 'out').exists()


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
