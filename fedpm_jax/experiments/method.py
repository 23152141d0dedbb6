"""From a configuration to a method: algorithm x compressor x codecs.

Here the three tables meet: what one of them sends must be what the next one
takes, and a mistake is found before any data is read.
"""

import json

import jax.numpy as jnp
import ml_collections

from fedpm_jax import algorithms, compressors, masks
from fedpm_jax.algorithms import base
from fedpm_jax.experiments import config as configs
from fedpm_jax.models.network import Network
from fedpm_jax.protocol.method import Method, Names, compose


def build(config: ml_collections.ConfigDict, network: Network) -> Method:
  """The method of a configuration, on a network.

  Args:
    config: see `fedpm_jax.config.default`.
    network: what it trains; nothing is computed yet.

  Raises:
    ValueError: a name that no table has, options that do not suit it, or parts
      that do not fit together.
  """
  make = _row(algorithms.ALGORITHMS, 'algorithm.name', config.algorithm.name)
  compressor = _compressor(config.wire, network.layout)
  optimizer = configs.optimizer(config.optimizer)
  algorithm = _algorithm(config, make, network, optimizer)
  return compose(
    network,
    algorithm,
    compressor,
    uplink=config.wire.uplink,
    downlink=config.wire.downlink,
    private_randomness=config.wire.private_randomness,
    names=Names(config.algorithm.name, config.wire.compressor),
  )


def check(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError for whatever is wrong that needs no data to be seen."""
  configs.validate(config)
  layout = masks.Layout(('dense/kernel',), ((1, 1),), (1,))
  nothing = lambda *_: jnp.zeros(1)
  build(config, Network(layout, nothing, nothing, {}))


def _algorithm(config, make, network, optimizer) -> base.Algorithm:
  """The algorithm of `config.algorithm`."""
  name, options = config.algorithm.name, config.algorithm.options
  participation = config.clients_per_round / config.num_clients
  try:
    return make(
      network, optimizer, participation=participation, **json.loads(options)
    )
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'config.algorithm.options {options!r} do not suit {name}: {error}'
    ) from error


def _compressor(wire, layout: masks.Layout) -> compressors.base.Compressor:
  """The compressor of `config.wire`, if its codec and its keys may be so."""
  make = _row(compressors.COMPRESSORS, 'wire.compressor', wire.compressor)
  try:
    compressor = make(layout, **json.loads(wire.options))
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'config.wire.options {wire.options!r} do not suit {wire.compressor}:'
      f' {error}'
    ) from error
  return compressor


def _row(table, key: str, name: str):
  """The row that `config.<key>` names; ValueError lists the rows."""
  if name not in table:
    raise ValueError(
      f'config.{key} must be one of {sorted(table)}, got {name!r}.'
    )
  return table[name]
