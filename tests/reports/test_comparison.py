"""Tables of made-up runs against numbers worked out by hand."""

import csv
import pathlib
import re
import subprocess
import sys

import fake_runs
import pytest

from fedpm_jax.reports import (
  compare,
  comparison,
  comparison_plots,
  comparison_tables,
  style,
  sweep_runs,
)
from fedpm_jax.system import files, reading

ROOT = pathlib.Path(__file__).parents[2]
LABELS = {'data': 'digits', 'method': 'fedpm', 'split': 'iid'}


@pytest.fixture
def workdir(tmp_path):
  """Two seeds of a mask method, a third that stopped, one of a dense method.

  d = 1000 and two clients, so 250 bytes are one bit per parameter and client.
  """
  fake_runs.write(
    tmp_path,
    {**LABELS, 'seed': '0'},
    [0.5, None, 0.9, 0.8],
    uplink=[250, 500, 250, 1000],
    downlink=[125, 125, 250, 500],
  )
  fake_runs.write(
    tmp_path,
    {**LABELS, 'seed': '1'},
    [0.4, None, 0.7, 0.6],
    uplink=[250, 250, 250, 250],
    downlink=[125, 125, 250, 500],
  )
  fake_runs.write(
    tmp_path,
    {**LABELS, 'seed': '2'},
    [1.0],
    uplink=[9999],
    downlink=[9999],
    finished=False,
  )
  fake_runs.write(
    tmp_path,
    {**LABELS, 'method': 'avg', 'seed': '0'},
    [0.3, 0.95],
    uplink=[8000, 8000],
    downlink=[8000, 8000],
    sampled=False,
  )
  names = [f'digits/{m}/iid/seed_{s}' for m, s in (('fedpm', 0), ('avg', 0))]
  files.write_json(tmp_path / 'sweep.json', names)
  return tmp_path


def test_every_number_of_two_seeds(workdir):
  row = comparison.table(sweep_runs.read(workdir), {'digits': 0.65})[0]
  assert row == {
    **LABELS,
    'seed_count': 2,
    'missing_runs': 1,
    'rounds': 4,
    'num_parameters': 1000,
    'accuracy_mean_network': pytest.approx(0.7),
    'accuracy_mean_network_std': pytest.approx(0.2 / 2**0.5),
    'accuracy_sampled': pytest.approx(0.69),
    'accuracy_sampled_std': pytest.approx(0.2 / 2**0.5),
    'accuracy_threshold': pytest.approx(0.68),
    'accuracy_threshold_std': pytest.approx(0.2 / 2**0.5),
    'client_accuracy_mean': pytest.approx(0.35),
    'client_accuracy_mean_std': pytest.approx(0.1 / 2**0.5),
    'client_accuracy_worst_tenth': pytest.approx(0.175),
    'client_accuracy_worst_tenth_std': pytest.approx(0.05 / 2**0.5),
    'uplink_bpp_wire': pytest.approx((2 + 1) / 2),
    'uplink_bpp_wire_last10': pytest.approx((2 + 1) / 2),
    'downlink_bpp_wire': pytest.approx(1.0),
    'downlink_bpp_wire_last10': pytest.approx(1.0),
    'megabytes_up': pytest.approx((2000 + 1000) / 2e6),
    'megabytes_down': pytest.approx(1000e-6),
    'target': 0.65,
    'seeds_at_target': 2,
    # Both in the third round: 1000 + 500 and 750 + 500 bytes.
    'megabytes_to_target': pytest.approx((1500 + 1250) / 2e6),
    'megabytes_up_to_target': pytest.approx((1000 + 750) / 2e6),
    'rounds_to_target': 3.0,
    'model_bytes': 125.0,
    'model_bpp': 1.0,
    'runs': 'digits/fedpm/iid/seed_0;digits/fedpm/iid/seed_1',
  }


def test_one_dense_run_has_no_spread_and_no_mask(workdir):
  row = comparison.table(sweep_runs.read(workdir))[1]
  assert row['method'] == 'avg'
  assert row['accuracy_mean_network'] == 0.95
  assert row['uplink_bpp_wire'] == 32.0
  assert row['model_bpp'] == 32.0
  for name in (
    'accuracy_mean_network_std',
    'accuracy_sampled',
    'accuracy_sampled_std',
    'accuracy_threshold',
    'target',
    'seeds_at_target',
    'megabytes_to_target',
    'megabytes_up_to_target',
    'rounds_to_target',
  ):
    assert row[name] is None


@pytest.mark.parametrize(
  ('target', 'seeds', 'megabytes', 'rounds'),
  [
    (0.8, 1, None, None),  # one seed of two: a mean would flatter
    (0.99, 0, None, None),
    (0.7, 2, 1375e-6, 3.0),  # reached exactly is reached
    (0.45, 2, (375 + 1250) / 2e6, 2.0),  # round 1 of 2 was not evaluated
  ],
)
def test_bytes_to_a_target_are_measured_at_rounds(
  workdir, target, seeds, megabytes, rounds
):
  row = comparison.table(sweep_runs.read(workdir), {'digits': target})[0]
  assert row['seeds_at_target'] == seeds
  assert row['rounds_to_target'] == rounds
  if megabytes is None:
    assert row['megabytes_to_target'] is None
  else:
    assert row['megabytes_to_target'] == pytest.approx(megabytes)


def test_last_ten_rounds(tmp_path):
  sizes = [250] * 5 + [1500] + [500] * 9
  fake_runs.write(
    tmp_path,
    {**LABELS, 'seed': '0'},
    [0.5] * 15,
    uplink=sizes,
    downlink=sizes,
  )
  (row,) = comparison.table(sweep_runs.read(tmp_path))
  assert row['downlink_bpp_wire_last10'] == pytest.approx(2.4)
  assert row['downlink_bpp_wire'] == pytest.approx(29 / 15)


def test_no_run_is_dropped_silently(workdir):
  fake_runs.write(
    workdir,
    {**LABELS, 'method': 'zz', 'seed': '0'},
    [0.5],
    uplink=[1],
    downlink=[1],
  ).joinpath('error.txt').write_text(
    'ValueError: too large\n\nTraceback', encoding='utf-8'
  )
  groups = sweep_runs.read(workdir)
  table = comparison.table(groups)
  assert [(r['method'], r['seed_count'], r['missing_runs']) for r in table] == [
    ('fedpm', 2, 1),
    ('avg', 1, 0),
    ('zz', 0, 1),
  ]
  assert table[-1]['accuracy_mean_network'] is None
  text = comparison_tables.markdown(groups, table)
  assert '2 runs missing or failed:' in text
  assert '`digits/fedpm/iid/seed_2`: not finished, 1 rounds recorded' in text
  assert '`digits/zz/iid/seed_0`: ValueError: too large\n' in text
  assert not any('zz' in row['method'] for row in comparison.curves(groups))


def test_markdown_cells(workdir):
  groups = sweep_runs.read(workdir)
  text = comparison_tables.markdown(
    groups, comparison.table(groups, {'digits': 0.8})
  )
  lines = [line for line in text.splitlines() if line.startswith('| ')]
  cells = [[c.strip() for c in line[2:-2].split(' | ')] for line in lines]
  assert len({len(row) for row in cells if row[0] != '---'}) == 1
  assert cells[2][:7] == [
    'fedpm',
    '2 of 3',
    '0.700 +- 0.141',
    '0.690 +- 0.141',
    '0.680 +- 0.141',
    '1.500',
    '1.500',
  ]
  assert cells[2][11] == 'reached by 1 of 2 seeds'
  assert cells[3][:6] == ['avg', '1', '0.950', '', '', '32.00']
  assert cells[3][11:] == ['0.0160', '0.0320', '2.0', '4.0', '32.00']
  assert '## digits: split iid' in text


def test_csv_files(workdir, tmp_path):
  groups = sweep_runs.read(workdir)
  _, files = comparison_tables.write(groups, tmp_path / 'out', {})
  assert [p.name for p in files] == [
    'comparison.csv',
    'comparison.md',
    'curves.csv',
  ]
  with open(files[0], encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  assert float(rows[0]['accuracy_mean_network']) == pytest.approx(0.7)
  assert rows[1]['accuracy_sampled'] == ''
  with open(files[2], encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 4 + 4 + 2
  assert rows[3] == {
    **LABELS,
    'seed': '0',
    'round_idx': '3',
    'accuracy_mean_network': '0.8',
    'accuracy_sampled': '0.79',
    'accuracy_threshold': '0.78',
    'uplink_bytes': '1000',
    'downlink_bytes': '500',
    'uplink_bpp_wire': '4.0',
    'downlink_bpp_wire': '2.0',
    'loss': '0.5',
  }
  assert rows[1]['accuracy_mean_network'] == ''


def test_runs_that_do_not_compare(workdir):
  fake_runs.write(
    workdir,
    {**LABELS, 'seed': '3'},
    [0.5, 0.5],
    uplink=[1, 1],
    downlink=[1, 1],
  )
  with pytest.raises(ValueError, match=r'seed_3.*their rounds: 4 and 2'):
    sweep_runs.read(workdir)


@pytest.mark.parametrize(
  ('count', 'sizes'), [(1, [1]), (6, [6]), (15, [5] * 3)]
)
def test_methods_in_rows_that_can_be_followed(count, sizes):
  methods = [f'm{i}' for i in range(count)]
  rows = comparison_plots.in_rows(methods * 2)
  assert [len(row) for row in rows] == sizes
  assert [method for row in rows for method in row] == methods
  for row in rows:
    assert len(set(row.values())) == len(row)


def test_report_writes_tables_and_pictures(workdir, tmp_path, capsys):
  out = tmp_path / 'out'
  text = compare.compare_runs(workdir, out, targets={'digits': 0.65})
  pictures = ('points', 'accuracy_rounds', 'accuracy_bytes', 'accuracy_uplink')
  pictures += ('uplink_bpp', 'density')
  assert {p.name for p in out.iterdir()} == {
    'comparison.csv',
    'comparison.md',
    'curves.csv',
    *(f'digits_{name}.{end}' for name in pictures for end in ('png', 'pdf')),
  }
  first = {path: path.read_bytes() for path in out.iterdir()}
  for path, content in first.items():
    assert str(path) in text
    starts = {'.png': b'\x89PNG', '.pdf': b'%PDF'}.get(path.suffix, b'')
    assert content.startswith(starts)
  compare.compare_runs(workdir, out, targets={'digits': 0.65})
  assert first == {path: path.read_bytes() for path in out.iterdir()}


def test_a_target_of_other_data(workdir):
  with pytest.raises(ValueError, match=r"\['digits'\], got \['mnist'\]"):
    comparison.table(sweep_runs.read(workdir), {'mnist': 0.9})


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'one of --list, --bits and --sweep, got none'),
    (['--bits=a', '--sweep=b'], 'one of --list, .*, got --bits and --sweep'),
    (['--sweep=nowhere'], 'nowhere holds no runs of a sweep'),
    (['--sweep=nowhere', '--target=digits'], "--target takes .* got 'digits'"),
  ],
)
def test_a_users_mistake_is_one_line(arguments, message):
  command = [sys.executable, '-m', 'fedpm_jax.report', *arguments]
  done = subprocess.run(
    command, cwd=ROOT, capture_output=True, encoding='utf-8'
  )
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: ')
  assert re.search(message, line)


def configure(folder, config):
  """Gives a run another configuration."""
  summary = reading.read_json(folder / 'summary.json', dict)
  files.write_json(folder / 'summary.json', summary | {'config': config})
  files.write_json(folder / 'config.json', config)


@pytest.mark.parametrize(
  ('shares', 'on'),
  [
    ((0.0, 0.0), 'test'),
    ((0.2, 0.2), 'validation'),
    ((0.2, 0.0), 'test or validation'),
  ],
)
def test_tables_and_pictures_say_which_set_accuracies_are_of(
  workdir, monkeypatch, shares, on
):
  drawn = []
  monkeypatch.setattr(style, 'save', lambda figure, _: drawn.append(figure))
  fedpm, dense = ({'seed': 0, 'data': {'validation': x}} for x in shares)
  for seed in (0, 1):
    folder = workdir / f'digits/fedpm/iid/seed_{seed}'
    configure(folder, fedpm | {'seed': seed})
  configure(workdir / 'digits/avg/iid/seed_0', dense)
  text = compare.compare_runs(workdir, workdir / 'out', targets={})
  assert f'accuracies of the {on} set\n' in text
  labels = [figure.axes[0].get_ylabel() for figure in drawn]
  assert labels.count(f'{on} accuracy, mean network') == 8
  assert not any('{' in label for label in labels)


def test_seeds_of_different_configurations_are_no_group(workdir):
  def configured(*rates):
    for seed, rate in enumerate(rates):
      folder = workdir / f'digits/fedpm/iid/seed_{seed}'
      configure(folder, {'seed': seed, 'optimizer': {'learning_rate': rate}})

  configured(0.1, 0.1)
  assert len(sweep_runs.read(workdir)[0].runs) == 2
  configured(0.1, 0.2)
  with pytest.raises(ValueError, match=r'differ in\s+their configuration'):
    sweep_runs.read(workdir)


def test_only_the_keys_that_differ_are_named(workdir):
  same = {'rounds': 4, 'data': {'name': 'digits', 'alpha': 0.3}}
  for seed, rate in enumerate((0.1, 0.2)):
    own = {'seed': seed, 'optimizer': {'name': 'adam', 'learning_rate': rate}}
    if seed:
      own['adam'] = {'b1': 0.3}
    configure(workdir / f'digits/fedpm/iid/seed_{seed}', same | own)
  with pytest.raises(ValueError) as caught:
    sweep_runs.read(workdir)
  assert str(caught.value) == (
    'digits/fedpm/iid/seed_0 and digits/fedpm/iid/seed_1 have the same labels but'
    ' differ in their configuration: optimizer.learning_rate = 0.1 and 0.2;'
    ' adam.b1 = None and 0.3. Label them apart, or run one of them again in a new'
    ' folder.'
  )


def test_of_many_keys_that_differ_some_are_named(workdir):
  for seed in (0, 1):
    keys = {f'key_{i}': [seed] * 100 for i in range(50)}
    configure(
      workdir / f'digits/fedpm/iid/seed_{seed}', {'seed': seed, 'data': keys}
    )
  with pytest.raises(
    ValueError, match=r'data\.key_4 = .*; and 45 more'
  ) as caught:
    sweep_runs.read(workdir)
  assert len(str(caught.value)) < 600


def test_rounds_that_one_run_alone_has_evaluated_are_named(workdir):
  accuracies = [0.1] * 20 + [None, 0.2]
  for seed, some in enumerate((accuracies, [0.1] * 21 + [0.2])):
    labels = {**LABELS, 'method': 'long', 'seed': str(seed)}
    fake_runs.write(workdir, labels, some, uplink=[1] * 22, downlink=[1] * 22)
  with pytest.raises(
    ValueError, match=r'evaluated rounds: one has \[21\] alone'
  ):
    sweep_runs.read(workdir)
