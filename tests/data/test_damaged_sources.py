"""Prepared data that are damaged: one line that names them, or right arrays."""

import json
import pathlib

import hypothesis
import json_values
import numpy as np
import prepared_toy
import pytest
from hypothesis import strategies as st

from fedpm_jax.data import prepared as prepared_data
from fedpm_jax.data import sources
from fedpm_jax.system import reading

pytestmark = pytest.mark.usefixtures('home')
JSON_FILES = ('dataset_info.json', 'features.json')
SPLIT = ('splits', 1)
FEATURES = ('featuresDict', 'features')
SHAPE = (*FEATURES, 'image', 'image', 'shape', 'dimensions')


def refused(root, match):
  """The error, in one line that names the folder and says what to do."""
  with pytest.raises(ValueError, match=match) as caught:
    sources.load('toy', data_dir=root)
  line = str(caught.value)
  assert isinstance(caught.value, sources.DataNotFound | reading.FileError)
  assert str(root / 'toy' / '1.0.0') in line
  assert 'Move that directory away, then: pip install' in line
  assert line.isprintable()
  assert not list(root.rglob('*.npz'))


def spoil(root, file, path, new):
  """Puts a value at a place of a JSON file; answers what was in the file."""
  target = root / 'toy' / '1.0.0' / file
  before = target.read_text()
  target.write_text(
    json.dumps(json_values.placed(json.loads(before), path, new))
  )
  return before


@pytest.mark.parametrize(
  ('file', 'path', 'new', 'match'),
  [
    ('dataset_info.json', (), [], 'it must be an object, got'),
    ('dataset_info.json', (), 'x', 'it must be an object, got'),
    ('dataset_info.json', ('splits',), 5, 'splits must be a list, got 5'),
    ('dataset_info.json', SPLIT, 'test', r'splits\[1\] must be an object'),
    ('dataset_info.json', SPLIT, {}, r"no field 'name' in splits\[1\]"),
    ('dataset_info.json', (*SPLIT, 'name'), 3, r'splits\[1\]\.name must be'),
    ('dataset_info.json', ('fileFormat',), None, 'fileFormat must be text'),
    ('dataset_info.json', ('fileFormat',), '\x1b[2J', r'as \\x1b\[2J, which'),
    ('dataset_info.json', ('alternativeFileFormats',), 'x', 'must be a list'),
    # The library takes both of these; it is NumPy that has no such memory.
    ('dataset_info.json', (*SPLIT, 'shardLengths'), [str(10**12)], 'promise'),
    ('features.json', (*SHAPE, 0), str(10**9), 'promise arrays of'),
    # The library's own word for these is AttributeError, ParseError, KeyError.
    ('dataset_info.json', (*SPLIT, 'shardLengths'), ['x'], 'damaged'),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), {}, 'damaged'),
    ('dataset_info.json', ('version',), 7, 'damaged'),
    ('features.json', (), 5, 'features.json: it must be an object, got 5'),
    ('features.json', (), {}, 'damaged'),
    ('features.json', ('featuresDict',), 5, 'damaged'),
    ('features.json', FEATURES, {'image': 5}, 'damaged'),
    ('features.json', ('pythonClassName',), 'os.path', 'damaged'),
    ('features.json', (*SHAPE, 0), {'a\n': 1}, 'damaged'),
  ],
)
def test_json_of_a_wrong_type_is_named(root, file, path, new, match):
  spoil(root, file, path, new)
  refused(root, match)


@pytest.mark.parametrize('file', JSON_FILES)
@pytest.mark.parametrize(
  ('content', 'match'),
  [
    (b'', 'no JSON'),
    (b'{"splits": [', 'no JSON'),
    (b'{"\xff": 1}', 'no UTF-8 text'),
    (b'[' * 100_000, 'nested too deeply'),
    (b'{"version": NaN}', 'NaN is no JSON'),
  ],
)
def test_a_file_that_is_no_json_is_named(root, file, content, match):
  (root / 'toy' / '1.0.0' / file).write_bytes(content)
  refused(root, f'{file}: .*{match}')


@pytest.mark.parametrize('damage', ['png', 'foreign', 'folder'])
def test_records_that_hold_something_else_are_named(root, damage):
  (records,) = (root / 'toy' / '1.0.0').glob('*test.array_record*')
  if damage == 'png':
    # The other shape shows only when an image is decoded.
    spoil(root, 'features.json', SHAPE, ['4', '6', '3'])
  elif damage == 'foreign':
    records.write_bytes(b'PK\3\4' * 50_000)
  else:
    records.unlink()
    records.mkdir()
  refused(root, 'toy/1.0.0 is damaged')


def test_a_folder_may_promise_only_what_its_files_can_hold(tmp_path):
  (tmp_path / 'a').write_bytes(bytes(700))
  (tmp_path / 'b').write_bytes(bytes(300))
  check = lambda n: prepared_data.check_size('toy', tmp_path, tmp_path, n)
  check(4096 * 1000)
  with pytest.raises(
    sources.DataNotFound, match=r'1,000 B promise .*4,096,001'
  ):
    check(4096 * 1000 + 1)


# ------------------------------------------------------------------------ laws

OFTEN = st.sampled_from(
  [0, -1, '7', '-7', '23', str(10**12), str(2**62), 'train', 'test', 'uint8']
)
VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text() | OFTEN,
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2)
  ),
  max_leaves=4,
)


def places(value, path=()):
  """The paths of a JSON value and of all that is in it."""
  yield path
  inside = enumerate(value) if isinstance(value, list) else ()
  if isinstance(value, dict):
    inside = value.items()
  for key, item in inside:
    yield from places(item, (*path, key))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """One copy for all examples of a law."""
  root = tmp_path_factory.mktemp('law')
  prepared_toy.prepare(root)
  return root


def assert_an_error_or_what_was_there(root):
  blocked = root / 'toy' / '1.0.0' / 'features.json'  # so no cache is written
  dataset, line = None, ''
  try:
    dataset = sources.load('toy', data_dir=root, cache_dir=blocked)
  except ValueError as error:
    line = str(error)
    hypothesis.event(type(error).__name__)
  if dataset is None:
    assert str(root / 'toy' / '1.0.0') in line
    assert line.isprintable()
    return
  for field, array in prepared_toy.toy_arrays().items():
    got = getattr(dataset, field)  # fewer where the JSON file says so
    np.testing.assert_array_equal(got, array[: len(got)])


@hypothesis.settings(max_examples=150)
@hypothesis.given(data=st.data())
def test_any_json_at_any_place(folder, data):
  file = data.draw(st.sampled_from(JSON_FILES))
  target: pathlib.Path = folder / 'toy' / '1.0.0' / file
  path = data.draw(st.sampled_from([*places(json.loads(target.read_text()))]))
  before = spoil(folder, file, path, data.draw(VALUES))
  try:
    assert_an_error_or_what_was_there(folder)
  finally:
    target.write_text(before)


@hypothesis.settings(max_examples=40)
@hypothesis.given(data=st.data())
def test_any_edit_of_records(folder, data):
  split = data.draw(st.sampled_from(['train', 'test']))
  (records,) = (folder / 'toy' / '1.0.0').glob(f'*{split}.array_record*')
  before = records.read_bytes()
  used = np.flatnonzero(np.frombuffer(before, np.uint8)).tolist()
  edited = bytearray(before)
  for at in data.draw(st.lists(st.sampled_from(used), min_size=1, max_size=3)):
    edited[at] ^= data.draw(st.integers(1, 255))
  if data.draw(st.booleans()):
    del edited[data.draw(st.integers(0, len(edited))) :]
  records.write_bytes(edited)
  try:
    assert_an_error_or_what_was_there(folder)
  finally:
    records.write_bytes(before)
