"""One damaged file of one run stops no report, and changes no other number."""

import csv
import json
import random
import re
import shutil

import fake_runs
import hypothesis
import pytest
from hypothesis import strategies as st

from fedpm_jax import report
from fedpm_jax.reports import (
  compare,
  comparison,
  comparison_tables,
  sweep_runs,
)
from fedpm_jax.system import reading

LABELS = {'data': 'digits', 'method': 'fedpm', 'split': 'iid'}
VICTIM = 'digits/fedpm/iid/seed_1'
ORDER = [f'digits/{m}/iid/seed_{s}' for m in ('fedpm', 'avg') for s in '01']
SIZES = [250, 500, 250, 1000]


def sweep(workdir, *, is_victim_finished=True):
  """Two methods of two seeds; one run is going to be damaged."""
  for method, seed in (('avg', 0), ('avg', 1), ('fedpm', 0), ('fedpm', 1)):
    fake_runs.write(
      workdir,
      LABELS | {'method': method, 'seed': str(seed)},
      [0.5, None, 0.9, 0.8 - 0.1 * seed],
      uplink=SIZES,
      downlink=SIZES,
      finished=is_victim_finished or (method, seed) != ('fedpm', 1),
    )
  (workdir / 'sweep.json').write_text(json.dumps(ORDER), encoding='utf-8')
  return workdir


@pytest.fixture
def workdir(tmp_path):
  return sweep(tmp_path / 'sweep')


@pytest.fixture(scope='module')
def without(tmp_path_factory):
  """What tables and curves say where the victim has not been finished."""
  groups = sweep_runs.read(
    sweep(tmp_path_factory.mktemp('other'), is_victim_finished=False)
  )
  return comparison.table(groups), comparison.curves(groups)


def half(content):
  return content[: len(content) // 2]


def without_field(*names):
  """The first JSON value, without one of its fields."""

  def damage(content):
    value, *others = map(json.loads, _values(content))
    inner = value
    for name in names[:-1]:
      inner = inner[name]
    del inner[names[-1]]
    return _lines([value, *others])

  damage.__name__ = f'without {".".join(names)}'
  return damage


def _lines(values):
  return ''.join(json.dumps(value) + '\n' for value in values).encode()


def with_field(value, *names):
  """The first JSON value, with a field that is another."""

  def damage(content):
    first, *others = map(json.loads, _values(content))
    inner = first
    for name in names[:-1]:
      inner = inner[name]
    inner[names[-1]] = value
    return _lines([first, *others])

  damage.__name__ = f'{value!r} for {".".join(names)}'
  return damage


def _values(content):
  """The texts of all JSON values: a file's, or a line's."""
  text = content.decode()
  return [text] if text.startswith('{\n') else text.splitlines()


def all_of_it(new):
  def damage(_):
    return new

  damage.__name__ = f'{new[:20]!r}'
  return damage


def folder(_):
  return None


EVERY = [
  half,
  folder,
  *map(
    all_of_it,
    [
      b'',
      random.Random(0).randbytes(500),
      bytes(500),
      b'"gr\xf6\xdfe"\n',
      b'5\n',
      b'[]\n',
      b'{}\n',
      b'null\n',
      b'"text"\n',
      b'[' * 100_000,
      b'{"round_idx": NaN}\n',
    ],
  ),
]
TABLE = {
  'labels.json': [
    *EVERY,
    *(without_field(name) for name in (*LABELS, 'seed')),
    *(with_field(x, 'data') for x in (5, None, 'mnist', '../..')),
    with_field('2', 'seed'),
    with_field('x', 'new'),
    lambda content: content.replace(b'split', b'spilt'),
  ],
  'metrics.jsonl': [
    *EVERY,
    *(
      without_field(name)
      for name in ('round_idx', 'uplink/bytes', 'downlink/bpp_wire')
    ),
    *(with_field(x, 'uplink/bytes') for x in (251, '250', None, 10**400, -1)),
    with_field(2, 'round_idx'),
    with_field(1.9, 'train/loss'),  # a digit, which only a checksum finds
    lambda content: content[: content.rindex(b'{')],  # the last row is lost
    lambda content: content + content,
    lambda content: content.replace(b'\n', b'\n\n'),
  ],
  'summary.json': [
    *EVERY,
    *(
      without_field(name)
      for name in ('last', 'best', 'total', 'mean', 'model', 'config')
    ),
    without_field('model', 'num_parameters'),
    without_field('last', 'eval/accuracy_mean'),
    with_field(0.25, 'last', 'eval/accuracy_mean'),
    with_field(2, 'last', 'round_idx'),
    with_field(1, 'total', 'uplink/bytes'),
    with_field(None, 'model', 'bytes'),
    with_field(1001, 'model', 'num_parameters'),
    with_field('many', 'model', 'bpp'),
    with_field([0.5], 'model', 'density_per_tensor'),
    with_field('x', 'model', 'density_per_tensor', 'dense/kernel'),
    with_field([], 'config'),
    with_field(7, 'config', 'seed'),
    without_field('config', 'seed'),
  ],
  'config.json': [
    *(damage for damage in EVERY),
    with_field(7, 'seed'),
    without_field('seed'),
  ],
}
CASES = [(name, damage) for name in TABLE for damage in TABLE[name]]


def damaged(path, damage):
  content = damage(path.read_bytes())
  path.unlink()
  if content is None:
    path.mkdir()
  else:
    path.write_bytes(content)


@pytest.mark.parametrize(
  ('name', 'damage'), CASES, ids=[f'{n} {d.__name__}' for n, d in CASES]
)
def test_damage_is_named_and_changes_no_other_number(
  workdir, without, name, damage
):
  damaged(workdir / VICTIM / name, damage)
  groups = sweep_runs.read(workdir)
  (run,) = [run for group in groups for run in group.missing]
  assert run.path == VICTIM
  file = workdir / VICTIM / name
  if name == 'config.json' and str(file) not in run.reason:
    file = workdir / VICTIM / 'summary.json'  # each says that of the other
  if name == 'metrics.jsonl' and str(file) not in run.reason:
    file = workdir / VICTIM / 'summary.json'
  assert run.reason.startswith((str(file), f'{VICTIM}: labels.json has '))
  assert 'Start the ' in run.reason
  assert len(run.reason.splitlines()) == 1
  table, curves = without
  assert comparison.table(groups) == table
  assert comparison.curves(groups) == curves


@pytest.mark.parametrize('name', TABLE)
def test_the_command_goes_on_and_names_the_run(workdir, name, capsys):
  (workdir / VICTIM / name).write_bytes(b'{"half": ')
  report.main([f'--sweep={workdir}', '--target=digits=0.9'])  # exits with 0
  text = capsys.readouterr().out
  assert '1 runs missing or failed:' in text
  assert f'- `{VICTIM}`: ' in text
  with open(workdir / 'comparison.csv', encoding='utf-8', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [(r['method'], r['seed_count'], r['missing_runs']) for r in rows] == [
    ('fedpm', '1', '1'),
    ('avg', '2', '0'),
  ]
  for path in workdir.glob('*.png'):
    assert str(path) in text


@pytest.mark.parametrize('damage', EVERY, ids=lambda damage: damage.__name__)
def test_a_failed_run_is_missing_whatever_its_reason(workdir, without, damage):
  path = workdir / VICTIM / 'error.txt'
  path.write_text('ValueError: too large\n\nTraceback', encoding='utf-8')
  damaged(path, damage)
  groups = sweep_runs.read(workdir)
  (run,) = [run for group in groups for run in group.missing]
  assert run.path == VICTIM
  assert run.reason
  assert len(run.reason) <= 2000
  assert comparison.table(groups) == without[0]


@pytest.mark.parametrize('damage', EVERY, ids=lambda damage: damage.__name__)
def test_an_unreadable_order_is_told_and_all_runs_are_there(workdir, damage):
  path = workdir / 'sweep.json'
  before = comparison.table(sweep_runs.read(workdir))
  assert sweep_runs.order(workdir) == (ORDER, None)
  damaged(path, damage)
  names, problem = sweep_runs.order(workdir)
  assert names == []
  if damage.__name__ != r"b'[]\n'":  # which is an order of nothing
    assert problem.startswith(f'{path}: ')
  after = comparison.table(sweep_runs.read(workdir))
  assert after == before[::-1]  # by name


def test_the_report_tells_of_an_unreadable_order(workdir, tmp_path):
  path = workdir / 'sweep.json'
  path.write_bytes(b'[')
  text = compare.compare_runs(workdir, tmp_path, targets={})
  assert f'In the order of their names: {path}: it is no JSON' in text
  assert 'missing or failed' not in text


def test_a_run_that_lost_its_labels_is_told_of(workdir, without):
  (workdir / VICTIM / 'labels.json').unlink()
  groups = sweep_runs.read(workdir)
  (run,) = [run for group in groups for run in group.missing]
  assert run.path == VICTIM
  assert 'there is no such file' in run.reason
  assert comparison.table(groups) == without[0]


def test_a_copy_of_a_folder_is_not_counted_twice(workdir):
  before = comparison.table(sweep_runs.read(workdir))
  shutil.copytree(workdir / VICTIM, workdir / f'{VICTIM}_old')
  groups = sweep_runs.read(workdir)
  (run,) = [run for group in groups for run in group.missing]
  assert run.path == f'{VICTIM}_old'
  assert "labels are those of a folder 'digits/fedpm/iid/seed_1'" in run.reason
  before[0]['missing_runs'] = 1
  assert comparison.table(groups) == before


def test_where_all_is_damaged_the_report_says_so(workdir, tmp_path):
  for path in workdir.rglob('labels.json'):
    path.write_bytes(b'')
  text = compare.compare_runs(workdir, tmp_path / 'out', targets={})
  assert '4 runs missing or failed:' in text
  assert re.search('^## unknown$', text, re.M)
  assert not list((tmp_path / 'out').glob('*.png'))


def test_runs_of_other_tensors_still_have_a_picture(workdir, tmp_path):
  path = workdir / VICTIM / 'summary.json'
  summary = reading.read_json(path, dict)
  del summary['model']['density_per_tensor']['conv_0/kernel']
  path.write_text(json.dumps(summary), encoding='utf-8')
  text = compare.compare_runs(workdir, tmp_path, targets={})
  assert 'missing' not in text
  assert (tmp_path / 'digits_density.png').exists()


@hypothesis.settings(max_examples=100)
@hypothesis.given(
  name=st.sampled_from(list(TABLE)),
  at=st.floats(0, 1, exclude_max=True),
  length=st.sampled_from([0, 1, 1, 20]),
  new=st.binary(max_size=2)
  | st.sampled_from([b'9', b'"', b'null', b'\\ud800']),
)
def test_no_damage_of_a_few_bytes_stops_a_report(
  tmp_path_factory, name, at, length, new
):
  workdir = tmp_path_factory.getbasetemp() / 'bytes'
  path = sweep(workdir) / VICTIM / name
  others = comparison.table(sweep_runs.read(workdir))[1:]
  content = path.read_bytes()
  i = int(at * len(content))
  path.write_bytes(content[:i] + new + content[i + length :])
  groups = sweep_runs.read(workdir)
  assert {run.path for group in groups for run in group.missing} <= {VICTIM}
  table = comparison.table(groups)
  assert [row for row in table if row['method'] == 'avg'] == others
  comparison_tables.markdown(groups, table).encode()
