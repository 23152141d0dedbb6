"""What is read has the shape that is expected, or one error says what not."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.system import reading

SHAPE = {
  'n': int,
  'name': str,
  'x': (float, type(None)),
  'all': {str: [int]},
  'part': range(1, 5),
}
GOOD = {
  'n': 3,
  'name': 'a',
  'x': 1.5,
  'all': {'b': [1, 2]},
  'more': [None],
  'part': 4,
}


def test_what_has_the_shape_comes_back(tmp_path):
  path = tmp_path / 'a.json'
  for change in ({}, {'x': None}, {'x': 2}, {'all': {}}):
    path.write_text(json.dumps(GOOD | change), encoding='utf-8')
    assert reading.read_json(path, SHAPE) == GOOD | change


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'it is no JSON'),
    (b'{"n": 3', 'it is no JSON'),
    (b'\xff\xfe\xfd', 'it is no UTF-8 text'),
    ('{}'.encode('utf-16'), 'it is no UTF-8 text'),
    ('{}'.encode('utf-32-be'), 'it is no JSON'),
    (b'[' * 100_000, 'nested too deeply'),
    (b'5', 'it must be an object, got 5'),
    (b'{}', "it has no field 'n'"),
    ({'n': True}, 'n must be an integer, got True'),
    ({'n': 1.0}, 'n must be an integer, got 1.0'),
    ({'name': ['x'] * 1000}, r'name must be text, got \[.{1,80}$'),
    ({'x': 'y'}, "x must be a finite number or null, got 'y'"),
    ({'all': {'b': [1, 'c']}}, r"all\.b\[1\] must be an integer, got 'c'"),
    ({'all': {'b': 1}}, r'all\.b must be a list, got 1'),
    ({'all': {'\n\x1b': 1}}, r'all\.\\n\\x1b must be a list, got 1'),
    ({'all': {'b' * 10**6: 1}}, r'^.{,200}all\.b{93}\.\.\. must be a list'),
    ({'part': 0}, 'part must be an integer from 1 to 4, got 0'),
    ({'part': 5}, 'part must be an integer from 1 to 4, got 5'),
    ({'part': 2.0}, r'part must be an integer from 1 to 4, got 2\.0'),
    ({'part': True}, 'part must be an integer from 1 to 4, got True'),
    (b'{"n": NaN}', 'NaN is no JSON'),
    (json.dumps(GOOD | {'x': 7}).replace('7', '1' * 400), 'x must be a finite'),
    (json.dumps(GOOD | {'x': 7}).replace('7', '1' * 5000), 'digits'),
    (json.dumps(GOOD | {'x': 7}).replace('7', '1e999'), 'x must be a finite'),
  ],
)
def test_anything_else_is_one_error_that_names_file_and_field(
  tmp_path, content, message
):
  path = tmp_path / 'a.json'
  if isinstance(content, dict):
    content = json.dumps(GOOD | content)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  with pytest.raises(reading.FileError) as caught:
    reading.read_json(path, SHAPE, remedy='Delete it.')
  text = str(caught.value)
  assert text.startswith(f'{path}: ')
  assert text.endswith('. Delete it.')
  assert '\n' not in text
  assert re.search(message, text.removesuffix('. Delete it.'))
  assert caught.value.path == path


def test_a_folder_in_its_place_is_an_error_and_a_missing_file_another(tmp_path):
  with pytest.raises(reading.FileError, match=r'cannot be read \(Is a dir'):
    reading.read_json(tmp_path, SHAPE)
  with pytest.raises(FileNotFoundError):
    reading.read_json(tmp_path / 'absent.json', SHAPE)


def test_a_file_of_any_size_takes_no_more_memory_than_a_whole_one(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(reading, '_MAX_BYTES', 100)
  path = tmp_path / 'a.json'
  path.write_bytes(b' ' * 98 + b'{}')
  assert reading.read_json(path, {}) == {}
  path.write_bytes(b' ' * 99 + b'{}')
  with pytest.raises(reading.FileError, match='it has more than 100 bytes'):
    reading.read_json(path, {})
  with open(path, 'wb') as file:
    file.truncate(2**40)  # of holes, which take no room
  with pytest.raises(reading.FileError, match='it has more than 100 bytes'):
    reading.read_json(path, {})


def test_a_name_with_a_line_break_leaves_an_error_one_line(tmp_path):
  error = reading.FileError(tmp_path / 'a\nb\x1b', 'it is odd.', line=3)
  assert str(error) == rf'{tmp_path}/a\nb\x1b:3: it is odd.'
  assert error.path == tmp_path / 'a\nb\x1b'


def _lines(path, shape=dict):
  """The values before the first damaged line, and the error or nothing."""
  values = []
  try:
    for value in reading.read_json_lines(path, shape, remedy='Cut it.'):
      values.append(value)
  except reading.FileError as error:
    return values, str(error)
  return values, ''


@pytest.mark.parametrize(
  ('content', 'number', 'message'),
  [
    (b'', 0, None),
    (b'{"a": 1}\n{"a": 2}\n', 2, None),
    (b'{"a": 1}\r\n{"a": 2}', 2, None),  # whole, but for the line's end
    (b'{"a": 1}\n{"a": ', 1, None),  # cut short
    (b'{"a": 1}\n{\0\0\0', 1, None),
    (b'{"a": 1}\n{"a": \n', 1, ':2: it is no JSON'),
    (b'{"a": 1}\n\n{"a": 2}\n', 1, ':2: it is no JSON'),
    (b'{"a": 1}\n5\n', 1, ':2: it must be an object, got 5'),
    (b'{"a": 1}\n[1]', 1, r':2: it must be an object, got \[1\]'),
    (b'{"a": 1}\n' + bytes(512), 1, ':2: it is no JSON'),
    (b'{"a": 1}\n\xff\xfe\n', 1, ':2: it is no UTF-8'),
    (b'{"a": 1}\n' + b'[' * 99_999 + b'\n', 1, ':2: .* nested too deeply'),
    (b'{"a": 1}\n{"a' + b' ' * 2**20, 1, ':2: it has more than 1,048,576 b'),
  ],
)
def test_lines_before_the_first_damaged_one(tmp_path, content, number, message):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(content)
  values, error = _lines(path)
  assert values == [{'a': 1}, {'a': 2}][:number]
  if message is None:
    assert not error
  else:
    assert re.match(rf'{re.escape(str(path))}{message}.*\. Cut it\.$', error)


def test_lines_of_a_folder_and_of_no_file(tmp_path):
  assert re.search(r'cannot be read \(Is a dir', _lines(tmp_path)[1])
  with pytest.raises(FileNotFoundError):
    _lines(tmp_path / 'absent.jsonl')


json_values = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
  max_leaves=10,
)


@given(st.binary() | json_values.map(lambda x: json.dumps(x).encode()))
def test_no_content_raises_anything_else(content):
  try:
    value = reading.parse_json(content, SHAPE)
  except ValueError:
    return
  assert isinstance(value['n'], int)


json_objects = st.dictionaries(st.text(), json_values).map(json.dumps)


@given(st.lists(json_objects | st.binary(), max_size=4), st.binary())
def test_no_lines_raise_anything_else(tmp_path_factory, lines, tail):
  path = tmp_path_factory.getbasetemp() / 'lines.jsonl'
  text = [x if isinstance(x, bytes) else x.encode() for x in lines]
  path.write_bytes(b''.join(line + b'\n' for line in text) + tail)
  values, _ = _lines(path)
  assert all(isinstance(value, dict) for value in values)
