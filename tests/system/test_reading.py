"""What is read has the shape that is expected, or one error says what not."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.system import reading

SHAPE = {'n': int, 'name': str, 'x': (float, type(None)), 'all': {str: [int]}}
GOOD = {'n': 3, 'name': 'a', 'x': 1.5, 'all': {'b': [1, 2]}, 'more': [None]}


def test_what_has_the_shape_comes_back(tmp_path):
  path = tmp_path / 'a.json'
  for change in ({}, {'x': None}, {'x': 2}, {'all': {}}):
    path.write_text(json.dumps(GOOD | change))
    assert reading.read_json(path, SHAPE) == GOOD | change


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'it is no JSON'),
    (b'{"n": 3', 'it is no JSON'),
    (b'\xff\xfe\xfd', 'it is no UTF-8 text'),
    (b'[' * 100_000, 'nested too deeply'),
    (b'5', 'it must be an object, got 5'),
    (b'{}', "it has no field 'n'"),
    ({'n': True}, 'n must be an integer, got True'),
    ({'n': 1.0}, 'n must be an integer, got 1.0'),
    ({'name': ['x'] * 1000}, r'name must be text, got \[.{1,80}$'),
    ({'x': 'y'}, "x must be a finite number or null, got 'y'"),
    ({'all': {'b': [1, 'c']}}, r"all\.b\[1\] must be an integer, got 'c'"),
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
