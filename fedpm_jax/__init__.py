"""Federated learning by random masks, at measured bit rates, in JAX.

    import fedpm_jax as fp
    config = fp.config('digits')
    run = fp.Experiment(config)
    for row in run.rounds():
      print(row['eval/accuracy_mean'], row['uplink/bpp_wire'])

The names below are loaded when they are first used, so that importing the
package costs nothing and decides nothing about JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedpm_jax.system.version import __version__

if TYPE_CHECKING:
  from fedpm_jax.algorithms.base import Algorithm
  from fedpm_jax.algorithms.local import ClientBatches, Sums
  from fedpm_jax.codecs.base import WireError
  from fedpm_jax.compressors.base import Compressor
  from fedpm_jax.data.sources import Dataset
  from fedpm_jax.experiments.api import config
  from fedpm_jax.experiments.experiment import Experiment
  from fedpm_jax.experiments.leading import Stopped
  from fedpm_jax.experiments.run import train
  from fedpm_jax.masks import Layout
  from fedpm_jax.models.network import Network
  from fedpm_jax.protocol.model_file import Model, load
  from fedpm_jax.system.reading import FileError

__all__ = [
  'Algorithm',
  'ClientBatches',
  'Compressor',
  'Dataset',
  'Experiment',
  'FileError',
  'Layout',
  'Model',
  'Network',
  'Stopped',
  'Sums',
  'WireError',
  '__version__',
  'config',
  'load',
  'train',
]

_HOMES = {
  'Algorithm': 'algorithms.base',
  'ClientBatches': 'algorithms.local',
  'Compressor': 'compressors.base',
  'Dataset': 'data.sources',
  'Experiment': 'experiments.experiment',
  'FileError': 'system.reading',
  'Layout': 'masks',
  'Model': 'protocol.model_file',
  'Network': 'models.network',
  'Stopped': 'experiments.leading',
  'Sums': 'algorithms.local',
  'WireError': 'codecs.base',
  'config': 'experiments.api',
  'load': 'protocol.model_file',
  'train': 'experiments.run',
}


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  home = importlib.import_module(f'{__name__}.{_HOMES[name]}')
  return getattr(home, name)


def __dir__() -> list[str]:
  return sorted(__all__)
