"""Imports the authors' FedPM from a checkout, as it stands.

https://github.com/BerivanIsik/sparse-random-networks imports three modules that
its repository does not have (DRIVE, EDEN, a pruned model).  FedPM uses nothing
of them; they are replaced by empty ones here.
"""

import pathlib
import sys
import types

import protocol

GET = (
  'pip install torch scipy, git clone'
  ' https://github.com/BerivanIsik/sparse-random-networks, --official=CHECKOUT'
)
ABSENT = ('drive', 'eden', 'eden.eden', 'models.pruned_layers')


class _Empty(types.ModuleType):
  """A module in which every name is there, as None."""

  __all__ = ()
  __path__ = ()

  def __getattr__(self, name):
    return None


def load(checkout: str | None) -> tuple[type, type]:
  """The classes Client and Server; says what is missing and ends otherwise."""
  source = pathlib.Path(checkout or '') / 'src'
  try:
    import scipy  # noqa: F401 (Is it there?)
    import torch  # noqa: F401

    if not (source / 'fedssm').is_dir():
      raise ImportError
  except ImportError:
    protocol.missing(GET)
  sys.path.insert(0, str(source))
  for name in ABSENT:
    sys.modules[f'fedssm.{name}'] = _Empty(f'fedssm.{name}')
  from fedssm.client import Client
  from fedssm.server import Server

  return Client, Server


def params(model: str, *, clients: int, epochs: int) -> dict:
  """Their settings of a run: what their yaml files have, and they use."""
  return {
    'simulation': {'n_clients': clients, 'verbose': 0},
    'model': {
      'id': model,
      'mode': 'mask',
      'init': 'ME_init',
      'local_epochs': epochs,
      'optimizer': {},
    },
  }
