"""Configuration files: Python, found by name from any folder.

A file has a function `get_config() -> ConfigDict`, perhaps with one argument
that `name:argument` gives it.  It may have `get_parts(config) -> dict` too:
objects of one's own, as keyword arguments of `Experiment` (dataset, model,
...).

What a file does wrong is one line that names the file and its line.
"""

import contextlib
import difflib
import functools
import hashlib
import importlib.util
import inspect
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import ml_collections

from fedpm_jax.experiments import build
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.config import Config
from fedpm_jax.system import text

PACKAGE = pathlib.Path(__file__).parents[1]
_NOT_IN_NAMES = re.compile(r'[^A-Za-z0-9_.,=+-]')
_MAX_NAME = 120  # characters; file systems take 255 bytes


class Loaded(NamedTuple):
  """What a configuration's file gives.

  Attributes:
    name: short, for the folder of a run: 'digits', or 'methods_drive' of
      'methods:drive'.
    config: the ConfigDict.
    module: of the file, for its `get_parts`.
  """

  name: str
  config: Config
  module: types.ModuleType

  def parts(self) -> dict[str, Any]:
    """The file's own objects; empty where it has none.

    Raises:
      ValueError: the file's `get_parts` fails, or gives something else.
    """
    if not hasattr(self.module, 'get_parts'):
      return {}
    path = pathlib.Path(self.module.__file__ or '')
    parts = call(path, self.module, 'get_parts', self.config)
    known = build.Parts._fields
    if not isinstance(parts, dict) or not {*parts} <= {*known}:
      got = list(parts) if isinstance(parts, dict) else parts
      raise ValueError(
        f'{path}: get_parts(config) must give a dict with keys of {[*known]},'
        f' got {text.one_line(text.short(got))}.'
      )
    return parts


def folder() -> pathlib.Path:
  """Where the experiments of this package lie.

  In a checkout beside the package, in an installed wheel inside of it.
  """
  inside = PACKAGE / 'configs'
  return inside if inside.is_dir() else PACKAGE.parent / 'configs'


def find(name: str, subfolder: str = '') -> pathlib.Path:
  """The file of a configuration: a path, or a name from `folder()`.

  Args:
    name: such as 'my/own.py', 'configs/cifar10.py' or 'cifar10'.
    subfolder: of `folder()`, where names are looked up too.

  Raises:
    ValueError: there is no such file; it lists the names.
  """
  path = pathlib.Path(name)
  if path.suffix == '.py' and path.is_file():
    return path
  # 'configs/cifar10.py' works from any folder, like 'cifar10'.
  stem = path.with_suffix('').name
  places = [folder() / subfolder, folder()]
  if path.parent.as_posix() in ('.', 'configs', 'configs/sweeps'):
    for place in places:
      if (place / f'{stem}.py').is_file():
        return place / f'{stem}.py'
  names = sorted(p.stem for p in places[0].glob('*.py'))
  near = difflib.get_close_matches(stem, names, 1)
  hint = f'did you mean {near[0]}? ' if near else ''
  raise ValueError(
    f'There is no configuration {name!r}: {hint}expected a file, *.py, or one of'
    f' {names}.'
  )


def load(path: pathlib.Path) -> types.ModuleType:
  """The module of a file; it is executed once, until the file changes.

  Raises:
    ValueError: it is no Python file, or it fails.
  """
  with _its_mistakes(path):
    return _load(path, path.stat().st_mtime_ns)


def call(
  path: pathlib.Path, module: types.ModuleType, name: str, *args: Any
) -> Any:
  """What a function of a file gives.

  Args:
    path: of the file, for messages.
    module: of the file.
    name: of the function, which the module has.
    *args: its arguments.

  Raises:
    ValueError: it is no function, takes other arguments, or fails.
  """
  function = getattr(module, name)
  if not callable(function):
    raise ValueError(f'{path}: {name} must be a function, got {function!r}.')
  signature = inspect.signature(function)
  try:
    signature.bind(*args)
  except TypeError as error:
    hint = ' (--config=FILE:ARGUMENT gives it one)'
    raise ValueError(
      f'{path}: {name}{signature} is called with {len(args)} arguments:'
      f' {error}{hint if name == "get_config" else ""}.'
    ) from error
  with _its_mistakes(path):
    return function(*args)


@contextlib.contextmanager
def _its_mistakes(path: pathlib.Path) -> Iterator[None]:
  """Turns whatever a file raises into one line that names the place in it."""
  try:
    yield
  except MemoryError:  # It is told of in other words, see `cli`.
    raise
  except Exception as error:
    key = ''
    if isinstance(error, AttributeError):
      key = configs.missing_key(error)
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    # A ValueError is what a file says itself: it is a sentence already.
    kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
    said = key or f'{kind}{said}'
    line = _line_of(error, path)
    place = f'{path}, line {line}' if line else f'{path}'
    raise ValueError(f'{place}: {text.one_line(said)}') from error


def _line_of(error: Exception, path: pathlib.Path) -> int | None:
  """The line of a file where something went wrong, if it is known."""
  if isinstance(error, SyntaxError) and error.filename == str(path.resolve()):
    return error.lineno
  frames = traceback.extract_tb(error.__traceback__)
  lines = [f.lineno for f in frames if f.filename == str(path.resolve())]
  return lines[-1] if lines else None


@functools.cache
def _load(path: pathlib.Path, changed: int) -> types.ModuleType:
  name = f'fedpm_jax_configuration_{path.stem}_{changed}'
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise ValueError(f'A configuration is a Python file, *.py, got {path}.')
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # Dataclasses look their module up there.
  spec.loader.exec_module(module)
  return module


def check(config: Config, what: str) -> None:
  """Raises ValueError unless this is a configuration with every key.

  Args:
    config: what a file gives.
    what: the file and its function, for the message.
  """
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(
      f'{what} must return a ConfigDict, such as fedpm_jax.config() with some'
      f' changes, got {text.one_line(text.short(config))}.'
    )
  for path in configs.every_key():
    try:
      configs.get(config, path)
    except (KeyError, AttributeError, TypeError) as error:
      raise ValueError(
        f'{what} must return a ConfigDict with all keys, which fedpm_jax.config()'
        f' has, and this one has no {path!r}.'
      ) from error


def read(named: str) -> Loaded:
  """The configuration that a command line names.

  Args:
    named: 'digits', 'methods:drive', 'configs/methods.py:drive', 'my/own.py'.

  Raises:
    ValueError: there is no such file, it has no `get_config`, or that fails or
      gives something else.
  """
  name, _, argument = named.partition(':')
  path = find(name)
  module = load(path.resolve())
  if not hasattr(module, 'get_config'):
    raise ValueError(f'{path} has no function get_config() -> ConfigDict.')
  arguments = [argument] if argument else []
  config = call(path, module, 'get_config', *arguments)
  check(config, f'{path}: get_config()')
  short = f'{path.stem}_{argument}' if argument else path.stem
  return Loaded(short, config, module)


def name_with_changes(
  loaded: Loaded, original: Config, changed: Collection[str]
) -> str:
  """The name of a configuration, with what a command line changes of it.

  So runs that differ have different folders, and a run that only grows, or is
  evaluated more often, keeps its folder.

  Args:
    loaded: with the changes.
    original: without them.
    changed: the dotted keys that the command line sets.

  Returns:
    Such as 'digits,seed=1,fedpm.lambda_0=2.0', fit for a folder's name.
  """
  plain = configs.deciding(configs.to_dict(loaded.config))
  words = [loaded.name]
  for path in configs.every_key():
    value = configs.get(loaded.config, path)
    section, _, key = path.rpartition('.')
    decides = key in (plain.get(section, {}) if section else plain)
    if path in changed and decides and value != configs.get(original, path):
      words.append(f'{path}={value}')
  return folder_name(words)


def folder_name(words: list[str]) -> str:
  """A name for a folder that differs for other words, and is not too long."""
  exact = ','.join(words)
  name = _NOT_IN_NAMES.sub('_', exact)
  if name == exact and len(name) <= _MAX_NAME:
    return name
  unique = hashlib.sha256(exact.encode()).hexdigest()[:8]
  return f'{name[:_MAX_NAME]},{unique}'
