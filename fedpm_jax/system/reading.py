"""Files are read with suspicion: whatever is wrong is one error that says what.

A file may be damaged, cut short by a full disk, written by another version, or
by somebody who means harm.  So each kind of file has one reader, and each
reader states the shape of what it expects:

    SHAPE = {'round_idx': int, 'labels': [str], 'bytes': {str: float}}
    read_json(path, SHAPE, remedy='Delete it: the next start writes it anew.')
"""

import json
import os
import pathlib
import reprlib
from typing import Any

# What a value must be: a type; a tuple of shapes, any of which will do; a list
# of one shape, which all elements have; or a dict, whose keys must be there,
# and where the key `str` stands for every other key.
Shape = Any

_NAMES = {
  str: 'text',
  int: 'an integer',
  float: 'a finite number',
  bool: 'true or false',
  dict: 'an object',
  list: 'a list',
  type(None): 'null',
}
_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 60
# A number of more digits is no number that anybody measured.
_MAX_NUMBER = 1e300


class FileError(ValueError):
  """A file is not what it should be: which one, what is wrong, what to do.

  Attributes:
    path: of the file.
  """

  def __init__(self, path: os.PathLike | str, problem: str, remedy: str = ''):
    """A message of one line.

    Args:
      path: of the file.
      problem: the field, what was expected and what was got.
      remedy: what the user can do.
    """
    text = f'{path}: {problem.rstrip(".")}.'
    super().__init__(f'{text} {remedy}'.strip())
    self.path = pathlib.Path(path)


def read_json(path: pathlib.Path, shape: Shape, *, remedy: str = '') -> Any:
  """The content of a JSON file, of the expected shape.

  Raises:
    FileNotFoundError: there is no such file.
    FileError: it cannot be read, is no JSON, or has another shape.
  """
  try:
    return parse_json(path.read_bytes(), shape)
  except FileNotFoundError:
    raise
  except (OSError, ValueError) as error:
    raise FileError(path, _reason(error), remedy) from error


def parse_json(text: bytes | str, shape: Shape) -> Any:
  """A JSON value of the expected shape.

  Raises:
    ValueError: it is no JSON (NaN and infinity are none), or has another shape.
  """
  try:
    value = json.loads(text, parse_constant=_no_constant)
  except UnicodeDecodeError as error:
    raise ValueError('it is no UTF-8 text') from error
  except json.JSONDecodeError as error:
    raise ValueError(f'it is no JSON ({error})') from error
  except RecursionError as error:
    raise ValueError('its JSON is nested too deeply') from error
  check(value, shape)
  return value


def check(value: Any, shape: Shape, field: str = '') -> None:
  """Raises ValueError for the first field of another shape, which it names.

  Args:
    value: of JSON: dicts, lists, text, numbers, true, false and null.
    shape: see `Shape`; `float` takes integers too, and no infinity.
    field: what the value is called; the whole file where it is empty.
  """
  if isinstance(shape, tuple):
    if not any(_fits(value, one) for one in shape):
      raise _mismatch(value, shape, field)
  elif isinstance(shape, dict):
    if not isinstance(value, dict):
      raise _mismatch(value, (dict,), field)
    for name in shape:
      if name is not str and name not in value:
        where = f' in {field}' if field else ''
        raise ValueError(f'it has no field {name!r}{where}')
    for name, item in value.items():
      inner = shape.get(name, shape.get(str))
      if inner is not None:
        check(item, inner, f'{field}.{name}' if field else name)
  elif isinstance(shape, list):
    if not isinstance(value, list):
      raise _mismatch(value, (list,), field)
    for i, item in enumerate(value):
      check(item, shape[0], f'{field}[{i}]')
  elif not _fits_type(value, shape):
    raise _mismatch(value, (shape,), field)


def _fits(value: Any, shape: Shape) -> bool:
  try:
    check(value, shape)
  except ValueError:
    return False
  return True


def _fits_type(value: Any, kind: type) -> bool:
  if isinstance(value, bool):  # which Python takes for an integer
    return kind is bool
  if kind is float:
    is_number = isinstance(value, int | float)
    return is_number and -_MAX_NUMBER < value < _MAX_NUMBER
  return isinstance(value, kind)


def _mismatch(value: Any, shapes: tuple[Shape, ...], field: str) -> ValueError:
  names = [
    _NAMES.get(shape, 'an object') if isinstance(shape, type) else 'an object'
    for shape in shapes
  ]
  what = field or 'it'
  return ValueError(
    f'{what} must be {" or ".join(names)}, got {_shortened.repr(value)}'
  )


def _reason(error: Exception) -> str:
  """Why a file cannot be read, without its path."""
  if isinstance(error, OSError):
    return f'it cannot be read ({error.strerror or error})'
  return str(error)


def _no_constant(name: str) -> float:
  raise ValueError(f'{name} is no JSON')
