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
from collections.abc import Iterator
from typing import Any

from fedpm_jax.system import text as texts

# What a value must be: a type; a range, of integers; a tuple of shapes, any of
# which will do; a list of one shape, which all elements have; or a dict, whose
# keys must be there, and where the key `str` stands for every other key.
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
# A number of more digits is no number that anybody measured.
_MAX_NUMBER = 1e300
# No file of JSON that we write comes near, and no line of one.
_MAX_BYTES = 2**26
_MAX_LINE = 2**20


class FileError(ValueError):
  """A file is not what it should be: which one, what is wrong, what to do.

  Attributes:
    path: of the file.
  """

  def __init__(
    self,
    path: os.PathLike | str,
    problem: str,
    remedy: str = '',
    *,
    line: int | None = None,
  ):
    """A message of one line, whatever the file's and the fields' names hold.

    Args:
      path: of the file.
      problem: the field, what was expected and what was got.
      remedy: what the user can do.
      line: which one of the file is meant, from 1.
    """
    where = path if line is None else f'{path}:{line}'
    text = f'{where}: {problem.rstrip(".")}. {remedy}'
    super().__init__(texts.printable(text.strip()))
    self.path = pathlib.Path(path)


def read_json(path: pathlib.Path, shape: Shape, *, remedy: str = '') -> Any:
  """The content of a JSON file, of the expected shape.

  Raises:
    FileNotFoundError: there is no such file.
    FileError: it cannot be read, is no JSON, or has another shape.
  """
  try:
    with open(path, 'rb') as file:
      content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
      raise ValueError(f'it has more than {_MAX_BYTES:,} bytes')
    return parse_json(content, shape)
  except FileNotFoundError:
    raise
  except (OSError, ValueError) as error:
    raise FileError(path, reason(error), remedy) from error


def read_json_lines(
  path: pathlib.Path, shape: Shape, *, remedy: str = ''
) -> Iterator[Any]:
  """The values of a file of one JSON object a line, one after the other.

  A last line that begins an object and does not end is a write that was cut
  short, and is left out.

  Raises:
    FileNotFoundError: there is no such file.
    FileError: at the first line that is no JSON, or has another shape; the
      values before it have been given.
  """
  number = 0
  try:
    with open(path, 'rb') as file:
      while line := file.readline(_MAX_LINE + 1):
        number += 1
        if len(line) > _MAX_LINE:
          raise ValueError(f'it has more than {_MAX_LINE:,} bytes')
        try:
          value = _parse(line)
        except ValueError:
          if line.startswith(b'{') and not line.endswith(b'\n'):
            return
          raise
        check(value, shape)
        yield value
  except FileNotFoundError:
    raise
  except OSError as error:
    raise FileError(path, reason(error), remedy) from error
  except ValueError as error:
    raise FileError(path, str(error), remedy, line=number) from error


def parse_json(text: bytes | str, shape: Shape) -> Any:
  """A JSON value of the expected shape.

  Raises:
    ValueError: it is no JSON (NaN and infinity are none), or has another shape.
  """
  value = _parse(text)
  check(value, shape)
  return value


def _parse(text: bytes | str) -> Any:
  try:
    if isinstance(text, bytes):  # json would take UTF-16 and UTF-32 as well
      text = text.decode()
    return json.loads(text, parse_constant=_no_constant)
  except UnicodeDecodeError as error:
    raise ValueError('it is no UTF-8 text') from error
  except json.JSONDecodeError as error:
    raise ValueError(f'it is no JSON ({error})') from error
  except RecursionError as error:
    raise ValueError('its JSON is nested too deeply') from error


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
        where = f' in {_called(field)}' if field else ''
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
  elif isinstance(shape, range):
    if not _fits_type(value, int) or value not in shape:
      raise _mismatch(value, (shape,), field)
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
  names = ' or '.join(map(_name, shapes))
  what = _called(field) or 'it'
  return ValueError(f'{what} must be {names}, got {texts.short(value)}')


def _called(field: str) -> str:
  """A file may call a field by a megabyte."""
  return field if len(field) <= 100 else f'{field[:97]}...'


def _name(shape: Shape) -> str:
  """What a value of this shape is called."""
  if isinstance(shape, range):
    return f'an integer from {shape[0]} to {shape[-1]}'
  kind = shape if isinstance(shape, type) else type(shape)
  return _NAMES.get(kind, 'an object')


def reason(error: Exception) -> str:
  """Why a file cannot be read, without its path."""
  if isinstance(error, OSError):
    return f'it cannot be read ({error.strerror or error})'
  return str(error)


def _no_constant(name: str) -> float:
  raise ValueError(f'{name} is no JSON')
