"""The configuration: all keys, their defaults, and checks of their values.

`config_keys.KEYS` lists the keys of the experiment.  Each algorithm,
compressor, optimiser and schedule with options has a section of its name beside
them, made from its function's signature: `config.fedpm.lambda_0`,
`config.adam.b1`.

A ConfigDict comes no further down than this folder.
"""

import copy
import difflib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import ml_collections
import optax
from ml_collections import config_dict

from fedpm_jax.algorithms import ALGORITHMS
from fedpm_jax.compressors import COMPRESSORS
from fedpm_jax.experiments import options
from fedpm_jax.experiments.config_keys import KEYS
from fedpm_jax.experiments.options import Option
from fedpm_jax.experiments.schedules import OF_ANY_LENGTH, SCHEDULES

if TYPE_CHECKING:

  class Config(Any):
    """A ConfigDict with the keys of `every_key`.

    Its attributes are made at run time, so that a type checker takes any;
    `default` locks it, and a key that is not there is an AttributeError.
    """

else:
  Config = ml_collections.ConfigDict

# Where a run finds its data is no part of the experiment.
_NOT_WRITTEN = (('data', 'dir'), ('data', 'cache_dir'))


def _optimizers() -> dict[str, Callable[..., Any]]:
  """The functions of optax whose first argument is a learning rate."""
  found = {}
  for name in sorted(vars(optax)):
    function = getattr(optax, name)
    made = inspect.isfunction(function) or isinstance(function, partial)
    if made and not name.startswith(('_', 'scale_by')):
      parameters = list(inspect.signature(function).parameters)
      if parameters and parameters[0] == 'learning_rate':
        found[name] = function
  return found


OPTIMIZERS = _optimizers()


def _row_options() -> dict[str, dict[str, Option]]:
  """The options of every row that has some."""
  rows = {**ALGORITHMS, **COMPRESSORS, **SCHEDULES}
  found = {name: options.of(row) for name, row in rows.items()}
  for name, optimizer in OPTIMIZERS.items():
    found[name] = options.of_optimizer(optimizer)
  return {name: section for name, section in found.items() if section}


ROW_OPTIONS = _row_options()


def every_key() -> dict[str, Option]:
  """All keys, dotted: those of the experiment, then every row's options."""
  rows = {
    f'{name}.{key}': value
    for name, section in ROW_OPTIONS.items()
    for key, value in section.items()
  }
  return KEYS | rows


def default() -> Config:
  """Every key there is; an experiment's file changes some of them.

  It is locked, so that a key that is not there is an error and no new key.
  """
  nested: dict[str, Any] = {}
  for path, entry in every_key().items():
    section, _, name = path.rpartition('.')
    value = entry.default
    if value is None:
      value = config_dict.placeholder(entry.kind)
    (nested.setdefault(section, {}) if section else nested)[name] = value
  return Config(nested).lock()


def used_sections(config: Config) -> list[str]:
  """The rows that a configuration names, those with options."""
  rows = (
    config.algorithm,
    config.wire.compressor,
    config.optimizer.name,
    config.optimizer.schedule,
  )
  return [name for name in rows if name in ROW_OPTIONS]


def options_of(config: Config, name: str) -> dict[str, Any]:
  """The options of a row, as keyword arguments of its function."""
  return config[name].to_dict() if name in ROW_OPTIONS else {}


def to_dict(config: Config) -> dict[str, Any]:
  """The nested dict that config.json holds.

  Options of rows that the run does not use are left out.  `build.describe` adds
  the objects that are handed over in place of names.
  """
  used = used_sections(config)
  plain = {
    name: value
    for name, value in config.to_dict().items()
    if name in used or name not in ROW_OPTIONS
  }
  for section, name in _NOT_WRITTEN:
    plain[section].pop(name)
  return json.loads(json.dumps(plain))


def deciding(plain: dict[str, Any]) -> dict[str, Any]:
  """What decides the numbers of a run: a run goes on where this is the same.

  Left out is what may change: how often a run is evaluated, say.  The number of
  rounds may change too, unless the learning rate follows a schedule over them.

  Args:
    plain: as `to_dict` or `build.describe` made it.
  """
  plain = copy.deepcopy(plain)
  free = [path for path, entry in KEYS.items() if not entry.decides]
  optimizer = plain.get('optimizer')
  if isinstance(optimizer, dict) and optimizer.get('schedule') in OF_ANY_LENGTH:
    free.append('rounds')
  for path in free:
    section, _, name = path.rpartition('.')
    inner = plain.get(section) if section else plain
    if isinstance(inner, dict):
      inner.pop(name, None)
  return plain


def from_dict(plain: dict[str, Any], parts: Iterable[str] = ()) -> Config:
  """The configuration of a run from its config.json.

  Args:
    plain: what `build.describe` made.
    parts: which are handed over as objects, such as 'model'; what the file says
      of them names nothing.

  Raises:
    ValueError: it has other keys than this version of the package, or names an
      object that is not handed over.
  """
  config, plain = default(), copy.deepcopy(plain)
  try:
    _leave_out_objects(plain, set(parts))
    config.update(plain)
  except (KeyError, AttributeError, TypeError) as error:
    raise ValueError(
      f'The run was configured for another version of fedpm_jax: {error}.'
    ) from error
  return config


_OWN = {  # where `build.describe` writes of which part
  'model': ('model',),
  'algorithm': ('algorithm',),
  'compressor': ('wire', 'compressor'),
  'optimizer': ('optimizer', 'name'),
  'dataset': ('data', 'name'),
  'clients': ('data', 'partition'),
}


def _leave_out_objects(plain: dict[str, Any], parts: set[str]) -> None:
  """Drops the descriptions of objects; ValueError where one is missing."""
  for part, path in _OWN.items():
    section = plain
    for name in path[:-1]:
      section = section[name]
    found = section[path[-1]]
    if found.startswith('own: '):
      if part not in parts:
        raise ValueError(
          f'The run was trained with a {part} of its own ({found}): hand it'
          f' over, {part}=..., or name its file, --config=FILE, with get_parts.'
        )
      del section[path[-1]]


def override(config: Config, path: str, text: str) -> None:
  """Sets a key from its text on a command line.

  Args:
    config: is changed.
    path: dotted, such as 'fedpm.lambda_0'.
    text: the value.

  Raises:
    ValueError: there is no such key (it names the nearest), or the text is no
      value of its type.
  """
  keys = every_key()
  if path not in keys:
    raise ValueError(_no_key(path))
  entry = keys[path]
  try:
    if entry.default is None and text.lower() == 'none':
      value = None
    else:
      value = options.parse(text, entry.kind)
  except ValueError as error:
    raise ValueError(f'config.{path}: {error}.') from error
  config.update_from_flattened_dict({path: value})


def check_used(config: Config, path: str) -> None:
  """Raises ValueError for an option of a row that the run does not use."""
  section = path.partition('.')[0]
  used = used_sections(config)
  if section in ROW_OPTIONS and section not in used:
    raise ValueError(
      f'config.{path} is an option of {section}, which this run does not use: it'
      f' has the options of {used}.'
    )


def missing_key(error: AttributeError) -> str:
  """What to say of a key that a ConfigDict lacks; empty for other errors."""
  found = re.match(r'Key "([^"]*)" does not exist', str(error).strip("'"))
  if not found:
    return ''
  return _no_key(found[1])


def _no_key(name: str) -> str:
  """That there is no such key, and which one is meant."""
  last = lambda path: path.rpartition('.')[2]
  near = [key for key in every_key() if last(key) == last(name)]
  near = near or difflib.get_close_matches(name, every_key(), 1, 0.5)
  hint = f'did you mean config.{near[0]}? ' if near else ''
  return f'config has no key {name!r}: {hint}--list shows all keys.'


def validate(config: Config) -> None:
  """Raises ValueError for the first number that cannot be meant.

  Names (of a model, a codec, a partition, ...) are checked where their tables
  are, also before anything is computed.
  """
  used = used_sections(config)
  for path, entry in every_key().items():
    section = path.partition('.')[0]
    if section in ROW_OPTIONS and section not in used:
      continue
    value = get(config, path)
    if value is None and entry.default is None:
      continue
    if value is None or not isinstance(value, entry.kind):
      raise ValueError(
        f'config.{path} must be of type {entry.kind.__name__}, got {value!r}.'
      )
    if entry.at_least is not None and value < entry.at_least:
      raise ValueError(
        f'config.{path} must be at least {entry.at_least}, got {value}.'
      )
    if isinstance(value, float) and not math.isfinite(value):
      raise ValueError(f'config.{path} must be finite, got {value}.')
  if not 0 <= config.seed < 2**32:
    raise ValueError(f'config.seed must lie in [0, 2^32), got {config.seed}.')
  if not 0 <= config.data.validation < 1:
    raise ValueError(
      'config.data.validation must lie in [0, 1), got'
      f' {config.data.validation}.'
    )
  if config.clients_per_round > config.num_clients:
    raise ValueError(
      'config.clients_per_round cannot exceed config.num_clients ='
      f' {config.num_clients}, got {config.clients_per_round}.'
    )


def get(config: Config, path: str) -> Any:
  """The value of a dotted key."""
  for part in path.split('.'):
    config = config[part]
  return config
