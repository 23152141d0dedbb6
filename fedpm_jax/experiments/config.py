"""The configuration: every key with its default, and what is wrong with one.

A ConfigDict comes no further than this file, method.py, experiment.py, train.py
and what runs many of them.
"""

import json
from typing import Any

import ml_collections
import optax


def default() -> ml_collections.ConfigDict:
  """Every key there is; an experiment's file changes some of them."""
  return ml_collections.ConfigDict(
    {
      'seed': 0,  # of everything random
      'rounds': 30,
      'num_clients': 10,  # M, the population
      'clients_per_round': 10,  # K, drawn without replacement
      'local_epochs': 3,
      'batch_size': 32,
      'model': 'conv4',  # conv2, conv4, conv6, conv8, conv10, cnn, lenet
      'data': {
        'name': 'digits',  # embedded; else a TFDS name, e.g. cifar10
        'dir': '',  # of TFDS; empty: $TFDS_DATA_DIR, ~/tensorflow_datasets
        'cache_dir': '',  # of decoded arrays; empty: in the folder above
        'partition': 'iid',  # iid, c_max, classes, dirichlet
        'classes_per_client': 2,  # for c_max and classes
        'alpha': 0.3,  # for dirichlet
        'sizes': 'equal',  # equal, unequal
        'max_examples': 0,  # a client's, 0 for all
      },
      'weights': {
        'kind': 'signed_constant',  # signed_constant, uniform, normal
        'gain': 2.718281828459045,  # std = gain / sqrt(fan_in); e, sqrt(2)
      },
      'algorithm': {
        'name': 'fedpm',  # fedpm, fedmask, edge_popup, fedavg, signsgd
        # JSON; what there is, and its defaults, stand in algorithms/<name>.py:
        # for FedPM e.g. '{"estimator": "official", "lambda_0": 1.0}'.
        'options': '{}',
      },
      'optimizer': {
        'name': 'adam',  # any function of optax that takes a learning rate
        'learning_rate': 0.1,
        'options': '{}',  # JSON, e.g. '{"momentum": 0.9}'
      },
      'wire': {
        # bernoulli, relative_entropy, mask_delta; mask; sign; identity,
        # terngrad, qsgd, drive, eden: README.md has the table of methods.
        'compressor': 'bernoulli',
        'options': '{}',  # JSON, of the compressor
        # Masks: bitpack, frequency, per_tensor, per_level, prior (where theta is
        # the probability of a bit), dither (bernoulli);
        # index: relative_entropy; raw: identity; levels: the other dense ones.
        'uplink': 'dither',
        # theta_raw, theta_levels, theta_news; raw for dense weights
        'downlink': 'theta_news',
        # Whether to refuse what only works where the server knows the clients'
        # random numbers.  In a simulation it could derive them all the same;
        # a deployment draws them on the client.  See README.md.
        'private_randomness': False,
        'keep_every': 10,  # rounds whose masks are kept for report --bits
      },
      'execution': {
        'lowering': 'auto',  # of convolutions, see models/lowering.py
        # Of activations and products: float32, or bfloat16 on a GPU or TPU.
        'dtype': 'float32',
        'devices': 0,  # at most so many, 0 for all
        'chunk': 1,  # clients vectorised at a time on a device
      },
      'evaluation': {'every': 1, 'batch_size': 250},  # rounds; images
      'checkpoint': {'every': 10, 'keep': 2},  # rounds; checkpoints
    }
  )


# Where a run finds its data is no part of the experiment.
_NOT_COMPARED = (('data', 'dir'), ('data', 'cache_dir'))


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The nested dict that determines a run: written, compared, checkpointed."""
  plain = config.to_dict()
  for section, key in _NOT_COMPARED:
    plain[section].pop(key)
  return json.loads(json.dumps(plain))


def from_dict(plain: dict[str, Any]) -> ml_collections.ConfigDict:
  """The configuration of a run from its config.json.

  Raises:
    ValueError: it has other keys than this version of the package.
  """
  config = default()
  try:
    config.update(plain)
  except (KeyError, AttributeError, TypeError) as error:
    raise ValueError(
      f'The run was configured for another version of fedpm_jax: {error}.'
    ) from error
  return config


def validate(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError for the first number that cannot be meant.

  Names (of a model, a codec, a partition, ...) are checked where their tables
  are, also before anything is computed.
  """
  at_least_one = (
    'rounds',
    'num_clients',
    'clients_per_round',
    'local_epochs',
    'batch_size',
    'execution.chunk',
    'evaluation.every',
    'evaluation.batch_size',
    'checkpoint.every',
    'checkpoint.keep',
  )
  at_least_zero = (
    'data.max_examples',
    'execution.devices',
    'wire.keep_every',
  )
  for low, keys in ((1, at_least_one), (0, at_least_zero)):
    for key in keys:
      value = _get(config, key)
      if value < low:
        raise ValueError(f'config.{key} must be at least {low}, got {value}.')
  if not 0 <= config.seed < 2**32:
    raise ValueError(f'config.seed must lie in [0, 2^32), got {config.seed}.')
  if config.clients_per_round > config.num_clients:
    raise ValueError(
      'config.clients_per_round cannot exceed config.num_clients ='
      f' {config.num_clients}, got {config.clients_per_round}.'
    )


def optimizer(config: ml_collections.ConfigDict) -> Any:
  """The optax optimiser of `config.optimizer`.

  Raises:
    ValueError: optax has no such optimiser, or it refuses the options.
  """
  name = config.name
  make = getattr(optax, name, None)
  if name.startswith('_') or not callable(make):
    raise ValueError(
      'config.optimizer.name must be an optimiser of optax, such as adam or'
      f' sgd, got {name!r}.'
    )
  if not config.learning_rate > 0:
    raise ValueError(
      'config.optimizer.learning_rate must be positive, got'
      f' {config.learning_rate}.'
    )
  try:
    made = make(config.learning_rate, **json.loads(config.options))
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'config.optimizer.options {config.options!r} do not suit'
      f' optax.{name}: {error}. Expected JSON such as'
      ' \'{"momentum": 0.9}\'.'
    ) from error
  if not isinstance(made, optax.GradientTransformation):
    raise ValueError(
      f'optax.{name} is not an optimiser: it made a {type(made).__name__}.'
    )
  return made


def _get(config: ml_collections.ConfigDict, path: str) -> Any:
  for part in path.split('.'):
    config = config[part]
  return config
