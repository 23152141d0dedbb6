"""Options: one source of truth, the signature of the function that takes them.

The options of an algorithm, a compressor, an optimiser or a schedule are
keyword arguments of its function.  Name, type and default are read off the
signature, the meaning off the docstring, so that none of them stands in two
places.
"""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

_KINDS = (bool, int, float, str)
# What the program hands to a row by itself; no user chooses it.
GIVEN = ('participation', 'compressor')


class Option(NamedTuple):
  """One key of a configuration.

  Attributes:
    default: its value where nobody sets it; None: it is not set.
    kind: bool, int, float or str.
    meaning: in a few words.
    at_least: the least number that makes sense; None where others check it.
    decides: whether it decides what is computed.  What does not may change
      while a run goes on.
  """

  default: Any
  kind: type
  meaning: str
  at_least: int | None = None
  decides: bool = True


def option(
  default: Any,
  meaning: str,
  at_least: int | None = None,
  *,
  decides: bool = True,
) -> Option:
  """An option whose type is that of its default."""
  return Option(default, type(default), meaning, at_least, decides)


def of(function: Callable[..., Any]) -> dict[str, Option]:
  """The options of a row's function, in the order of its signature.

  They are its keyword-only arguments, without those of `GIVEN`.

  Args:
    function: a row of a table, or one's own.

  Raises:
    TypeError: an option has no default, or a type that a command line has no
      words for.
  """
  hints = typing.get_type_hints(function)
  meanings = _meanings(function)
  found = {}
  for name, parameter in inspect.signature(function).parameters.items():
    if parameter.kind is not parameter.KEYWORD_ONLY or name in GIVEN:
      continue
    kind = _kind(hints.get(name))
    if kind is None or parameter.default is parameter.empty:
      raise TypeError(
        f'Option {name!r} of {function} needs a default, and a type of bool, int,'
        f' float or str; got {parameter}.'
      )
    found[name] = _option(parameter.default, kind, meanings.get(name, ''))
  return found


def of_optimizer(function: Callable[..., Any]) -> dict[str, Option]:
  """The options of an optimiser of optax: numbers and switches.

  What else there is (masks, types, keys) is left at its default; in Python any
  optimiser can be passed instead.
  """
  meanings = _meanings(function)
  parameters = list(inspect.signature(function).parameters.items())
  found = {}
  for name, parameter in parameters[1:]:  # the first is the learning rate
    kind = _kind_of_optax(name, parameter)
    if kind:
      found[name] = _option(parameter.default, kind, meanings.get(name, ''))
  return found


def takes(function: Callable[..., Any], name: str) -> bool:
  """Whether a function has an argument of this name."""
  return name in inspect.signature(function).parameters


def parse(text: str, kind: type) -> Any:
  """A value from a command line.

  Raises:
    ValueError: it is no such value.
  """
  if kind is bool:
    words = {'true': True, '1': True, 'false': False, '0': False}
    if text.lower() not in words:
      raise ValueError(f'expected true or false, got {text!r}')
    return words[text.lower()]
  try:
    return kind(text)
  except ValueError as error:
    name = {int: 'an integer', float: 'a number'}[kind]
    raise ValueError(f'expected {name}, got {text!r}') from error


def _option(default: Any, kind: type, meaning: str) -> Option:
  return Option(None if default is None else kind(default), kind, meaning)


def _kind(hint: Any) -> type | None:
  """Of `float` or `float | None`: float."""
  if typing.get_origin(hint) in (types.UnionType, typing.Union):
    kinds = [k for k in typing.get_args(hint) if k is not type(None)]
    hint = kinds[0] if len(kinds) == 1 else None
  return hint if hint in _KINDS else None


def _kind_of_optax(name: str, parameter: inspect.Parameter) -> type | None:
  """The type of an argument; optax annotates most numbers as arrays."""
  annotation, default = str(parameter.annotation), parameter.default
  if name == 'key' or name.endswith('mask') or 'dtype' in name:
    return None
  if isinstance(default, bool):
    return bool
  if 'int' in annotation and 'ndarray' not in annotation:
    return int
  if default is None or isinstance(default, int | float):
    return float
  return None


def _meanings(function: Callable[..., Any]) -> dict[str, str]:
  """The first sentence of each argument's description in a docstring."""
  if isinstance(function, functools.partial):
    function = function.func
  documentation = inspect.getdoc(function) or ''
  _, _, after = documentation.partition('\nArgs:\n')
  section = re.split(r'\n\n?(?=\S)', after)[0]
  found = {}
  for entry in re.split(r'\n(?=  (?:  )?\w+: )', '\n' + section):
    name, _, text = entry.strip().partition(': ')
    text = ' '.join(text.split())
    found[name] = re.split(r'(?<=[.;]) ', text)[0].rstrip('.;')
  return found
