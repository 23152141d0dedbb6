"""summary.json: what is read has all that is shown, or one error says not."""

import copy
import json
import re

import fake_runs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.reports import curves
from fedpm_jax.reports import summary as summaries
from fedpm_jax.system import reading

ROWS = [fake_runs.row(t, 0.5 + 0.1 * t, 250, 125) for t in range(3)]
GOOD = fake_runs.summary_of(ROWS, 0) | {
  'command': 'fedpm train',
  'commit': None,
}


MORE = {
  'eval/accuracy_sampled_mean': 0.625,
  'eval/accuracy_sampled_std': 0.03125,
  'eval/accuracy_vote': 0.75,
  'eval/client_accuracy_mean': 0.5,
  'eval/client_accuracy_worst_tenth': 0.25,
}


def changed(path, value):
  """A good summary but for one field; None leaves it out."""
  summary = copy.deepcopy(GOOD)
  *before, last = path
  inner = summary
  for name in before:
    inner = inner[name]
  if value is None:
    del inner[last]
  else:
    inner[last] = value
  return summary


def paths(value, prefix=()):
  """Where everything lies in nested dicts."""
  for name, item in value.items():
    yield (*prefix, name)
    if isinstance(item, dict):
      yield from paths(item, (*prefix, name))


def test_a_good_summary_comes_back_with_what_else_it_says(tmp_path):
  path = tmp_path / 'summary.json'
  path.write_text(json.dumps(GOOD), encoding='utf-8')
  assert summaries.read(path) == GOOD
  lines = summaries.table(GOOD).splitlines()
  assert lines[2].split() == ['accuracy,', 'mean', '0.7000', '0.7000', '(3)']
  with pytest.raises(FileNotFoundError):
    summaries.read(tmp_path / 'absent.json')


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    (['last'], None, "it has no field 'last'"),
    (['last'], 5, 'last must be an object, got 5'),
    (['last', 'uplink/bytes'], None, "no field 'uplink/bytes' in last"),
    (['last', 'eval/accuracy_mean'], None, "'eval/accuracy_mean' in last"),
    (['last', 'eval/accuracy_mean'], 1.5, r'in \[0, 1\], got 1\.5'),
    (['last', 'eval/accuracy_sampled'], None, "best has '.*_sampled', which"),
    (['last', 'train/loss'], 'x', r'last\.train/loss must be a finite number'),
    (['best', 'eval/accuracy_mean'], 0.5, 'accuracy_mean must be an object'),
    (['best', 'x'], {'value': 1, 'round_idx': 0}, "best has 'x', which last"),
    (['total', 'uplink/bytes'], 10**400, r'total\.uplink/bytes must be an int'),
    (['mean', 'downlink/bpp_wire'], '1', r'mean\.downlink/bpp_wire must be a'),
    (['model', 'num_parameters'], 0, r'model\.num_parameters must be an int'),
    (['model', 'num_parameters'], 1001, r'model\.bpp must be 8 \* .*, got 1\.'),
    (['model', 'bytes'], -1, r'model\.bytes must be an integer from 0'),
    (['model', 'density_per_tensor'], [1], 'density_per_tensor must be an ob'),
    (['config'], [], 'config must be an object'),
    (['device'], 1, 'device must be text'),
  ],
)
def test_every_field_that_is_shown_is_checked(tmp_path, path, value, message):
  file = tmp_path / 'summary.json'
  file.write_text(json.dumps(changed(path, value)), encoding='utf-8')
  with pytest.raises(
    reading.FileError, match=rf'summary\.json: .*{message}.*Start the run again'
  ):
    summaries.read(file)


def test_a_table_has_all_that_an_evaluation_may_give(tmp_path):
  """`best` is of accuracies only: the greatest spread would be no best."""
  rows = [ROWS[0], ROWS[1] | MORE]
  networks = ['mean', 'sampled', 'threshold', 'sampled_mean', 'vote']
  names = [f'eval/accuracy_{kind}' for kind in networks]
  assert curves.networks(rows) == names
  summary = fake_runs.summary_of(rows, 0)
  del summary['best']['eval/accuracy_sampled_std']
  path = tmp_path / 'summary.json'
  path.write_text(json.dumps(summary), encoding='utf-8')
  lines = summaries.table(summaries.read(path)).splitlines()
  found = {tuple(line.split()) for line in lines}
  assert {
    (
      *('accuracy,', 'sampled_mean', '0.6250', '0.6250', '(2)'),
      *('standard', 'deviation', '0.0312'),
    ),
    ('accuracy,', 'vote', '0.7500', '0.7500', '(2)'),
    ('clients,', 'mean', '0.5000'),
    ('clients,', 'worst', 'tenth', '0.2500'),
  } <= found
  ends = {re.search(r'\.\d{4}', line).end() for line in lines[2:9]}
  assert len(lines[2:9]) == 7
  assert len(ends) == 1  # the column of the last round


values = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
  max_leaves=5,
)


@given(
  st.sampled_from(list(paths(GOOD))), values | st.integers(10**15, 10**400)
)
def test_a_table_shows_whatever_was_read(tmp_path_factory, path, value):
  file = tmp_path_factory.getbasetemp() / 'summary.json'
  file.write_text(json.dumps(changed(path, value)), encoding='utf-8')
  try:
    summary = summaries.read(file)
  except reading.FileError:
    return
  summaries.table(summary).encode()


def test_the_list_of_files_of_a_folder_of_any_name(tmp_path):
  folder = tmp_path / 'a\n\x1b[31m\udcff'
  folder.mkdir()
  (folder / 'summary.json').touch()
  empty, head, line = summaries.file_list(folder).split('\n')
  assert empty == ''
  assert head.startswith('In ')
  assert head.endswith(r'/a\n\x1b[31m\udcff:')
  assert re.fullmatch(r'  summary\.json +last and best metrics, .*', line)
