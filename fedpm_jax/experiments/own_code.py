"""A checksum of code of one's own, so that a run does not go on with another.

An algorithm or a compressor of one's own is called by its function's name,
which stays when the code or a constant of it changes.
"""

import functools
import hashlib
import inspect
import types
from typing import Any

from fedpm_jax.models import network as networks


def digest(thing: Any) -> str:
  """Eight hex digits of a function, or of an object made of functions.

  They follow from the source of each function, its defaults and the values that
  it has from the functions around it.  Functions that it calls by a global name
  are not looked into.

  Args:
    thing: an `Algorithm`, a `Compressor`, or a function that makes one.
  """
  return hashlib.sha256(_text(thing, set()).encode()).hexdigest()[:8]


def _text(thing: Any, seen: set[int]) -> str:
  if isinstance(thing, functools.partial):
    return _text((thing.func, thing.args, thing.keywords), seen)
  if isinstance(thing, dict):
    items = sorted(thing.items(), key=lambda item: str(item[0]))
    return _text(items, seen)
  if isinstance(thing, list | tuple):
    return f'({", ".join(_text(part, seen) for part in thing)})'
  if not isinstance(thing, types.FunctionType):
    return networks.described(thing)
  if id(thing) in seen:  # It is in its own closure.
    return thing.__qualname__
  seen.add(id(thing))
  parts = (thing.__defaults__, thing.__kwdefaults__, _closure(thing))
  return f'{_source(thing)} {_text(parts, seen)}'


def _source(function: types.FunctionType) -> str:
  """The text; of a function without one, such as of `exec`, its bytecode."""
  try:
    return inspect.getsource(function)
  except (OSError, TypeError):
    code = function.__code__
    constants = [c for c in code.co_consts if not inspect.iscode(c)]
    inner = [c.co_code.hex() for c in code.co_consts if inspect.iscode(c)]
    return f'{code.co_code.hex()} {constants} {inner}'


def _closure(function: types.FunctionType) -> list[Any]:
  """The values that it has from the functions around it."""
  found = []
  for cell in function.__closure__ or ():
    try:
      found.append(cell.cell_contents)
    except ValueError:  # It is not set yet.
      found.append(None)
  return found
