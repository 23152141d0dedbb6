"""Configuration files: Python, found by name from any folder.

A file has a function `get_config() -> ConfigDict`, perhaps with one argument
that `name:argument` gives it.  It may have `get_parts(config) -> dict` too:
objects of one's own, as keyword arguments of `Experiment` (dataset, model,
...).
"""

import difflib
import functools
import hashlib
import importlib.util
import pathlib
import re
import sys
import types
from collections.abc import Collection
from typing import Any, NamedTuple

from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.config import Config

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
    """The file's own objects; empty where it has none."""
    make = getattr(self.module, 'get_parts', None)
    return dict(make(self.config)) if make else {}


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
    ValueError: it is no Python file.
  """
  return _load(path, path.stat().st_mtime_ns)


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


def read(text: str) -> Loaded:
  """The configuration that a command line names.

  Args:
    text: 'digits', 'methods:drive', 'configs/methods.py:drive', 'my/own.py'.

  Raises:
    ValueError: there is no such file, or it has no `get_config`.
  """
  name, _, argument = text.partition(':')
  path = find(name)
  module = load(path.resolve())
  if not hasattr(module, 'get_config'):
    raise ValueError(f'{path} has no function get_config() -> ConfigDict.')
  try:
    config = module.get_config(*([argument] if argument else []))
  except AttributeError as error:
    said = configs.missing_key(error)
    if not said:
      raise
    raise ValueError(f'{path}: {said}') from error
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
  exact = ','.join(words)
  name = _NOT_IN_NAMES.sub('_', exact)
  if name == exact and len(name) <= _MAX_NAME:
    return name
  unique = hashlib.sha256(exact.encode()).hexdigest()[:8]
  return f'{name[:_MAX_NAME]},{unique}'
