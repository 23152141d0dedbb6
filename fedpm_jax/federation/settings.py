"""What a Flower app is told: the run's configuration, the node's.

    flwr run . --run-config 'config="digits" flags="--config.rounds=5"'

`config` and `flags` are those of `python -m fedpm_jax.train`, so that both ends,
and a simulation, are configured alike.
"""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import config_files
from fedpm_jax.experiments.config import Config

# Every key of [tool.flwr.app.config], with its default.
DEFAULTS: dict[str, Any] = {
  'config': 'digits',
  'flags': '',
  'workdir': '',
  'min-answers': 1,
  'timeout': 600.0,
  'join-timeout': 60.0,
}


class Settings(NamedTuple):
  """What a run needs besides its configuration.

  Attributes:
    config: of the experiment.
    parts: objects of the configuration's file, as of `Experiment`.
    workdir: where the server writes.
    min_answers: a round waits until so many clients have answered.
    timeout: seconds; then a round goes on without the others.
    join_timeout: seconds that a round waits for clients without a node.
  """

  config: Config
  parts: dict[str, Any]
  workdir: pathlib.Path
  min_answers: int
  timeout: float
  join_timeout: float


def read(run_config: Mapping[str, Any]) -> Settings:
  """The settings of a run.

  Args:
    run_config: Flower's, with the keys of DEFAULTS.

  Raises:
    ValueError: a key or a value makes no sense.
  """
  given = DEFAULTS | dict(run_config)
  unknown = sorted(set(given) - set(DEFAULTS))
  if unknown:
    raise ValueError(
      f'The run config has the keys {list(DEFAULTS)}, got {unknown}. Keys of the'
      " experiment are flags: flags='--config.rounds=5'."
    )
  for name in ('min-answers', 'timeout', 'join-timeout'):
    value = given[name]
    if not isinstance(value, int | float) or not value >= 0:
      raise ValueError(f'{name} must be a number from 0 on, got {value!r}.')
  loaded = config_files.read(str(given['config']))
  original = loaded.config.copy_and_resolve_references()
  changed = []
  for word in shlex.split(str(given['flags'])):
    path, has_value, value = word.removeprefix('--config.').partition('=')
    if not word.startswith('--config.') or not has_value:
      raise ValueError(
        f"flags are of the form '--config.KEY=VALUE', got {word!r}."
      )
    configs.override(loaded.config, path, value)
    changed.append(path)
  for path in changed:
    configs.check_used(loaded.config, path)
  name = config_files.name_with_changes(loaded, original, changed)
  return Settings(
    loaded.config,
    loaded.parts(),
    pathlib.Path(given['workdir'] or pathlib.Path('runs') / name),
    int(given['min-answers']),
    float(given['timeout']),
    float(given['join-timeout']),
  )


def client_id(node_config: Mapping[str, Any]) -> int:
  """Which client a node is; ValueError where it does not say so."""
  found = node_config.get('partition-id')
  if type(found) is not int:
    raise ValueError(
      "A node needs its client's id, got"
      f' {found!r}: flower-supernode --node-config "partition-id=0".'
    )
  return found


def own_file(node_config: Mapping[str, Any]) -> tuple[str, int] | None:
  """A node's own file and the number of classes; None where it has none.

  Raises:
    ValueError: it does not say how many classes there are.
  """
  if 'data' not in node_config:
    return None
  classes = node_config.get('num-classes')
  if type(classes) is not int or classes < 2:
    raise ValueError(
      'A node with a file of its own needs the number of classes, 2 or more, got'
      f' {classes!r}: --node-config \'data="mine.npz" num-classes=10\'.'
    )
  return str(node_config['data']), classes
