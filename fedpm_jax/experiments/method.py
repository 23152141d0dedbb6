"""From a configuration to a method: algorithm x compressor x codecs.

Here the three tables meet: what one of them sends must be what the next one
takes, and a mistake is found before any data is read.
"""

import json

import jax.numpy as jnp
import ml_collections

from fedpm_jax import algorithms, codecs, compressors, masks
from fedpm_jax.algorithms import base
from fedpm_jax.experiments import config as configs
from fedpm_jax.models.network import Network
from fedpm_jax.protocol.exchange import Method


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
  _check_fit(config, algorithm, compressor)
  wire = config.wire
  return Method(network, algorithm, compressor, wire.uplink, wire.downlink)


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
  _check_codec(wire, 'uplink', compressor.symbols)
  if wire.uplink == 'dither' and not compressor.mask_is_dithered:
    raise ValueError(
      "config.wire.uplink = 'dither' is for masks that are drawn with dithers,"
      f" the compressor 'bernoulli': got {wire.compressor!r}. 'frequency' codes"
      ' any mask.'
    )
  shared = {
    'uplink': wire.uplink == 'dither',
    'compressor': compressor.needs_shared_key,
  }
  for key, shares in shared.items():
    if wire.private_randomness and shares:
      raise ValueError(
        f"config.wire.{key} = {wire[key]!r} derives each client's random"
        ' numbers from a key that the server has, too;'
        ' config.wire.private_randomness forbids it. For FedPM, use the'
        " compressor 'bernoulli' with the uplink 'prior'; of dense methods,"
        " 'terngrad' and 'qsgd' share nothing."
      )
  return compressor


def _check_codec(wire, direction: str, symbols: str) -> None:
  """ValueError unless the direction's codec carries these symbols."""
  codec = _row(codecs.CODECS, f'wire.{direction}', wire[direction])
  if codec.symbols != symbols:
    rows = [c.name for c in codecs.CODECS.values() if c.symbols == symbols]
    raise ValueError(
      f'config.wire.{direction} must be a codec of {symbols} symbols, one of'
      f' {rows}: {codec.name!r} carries {codec.symbols}.'
    )


def _check_fit(config, algorithm, compressor) -> None:
  """ValueError unless algorithm, compressor and codecs suit each other."""
  name, wire = config.algorithm.name, config.wire
  if (compressor.update, compressor.aggregated) != (
    algorithm.update,
    algorithm.aggregated,
  ):
    raise ValueError(
      f'config.algorithm.name = {name!r} sends a {algorithm.update} and expects'
      f' a {algorithm.aggregated}, config.wire.compressor = {wire.compressor!r}'
      f' turns a {compressor.update} into a {compressor.aggregated}: see the table of'
      ' methods in README.md.'
    )
  _check_codec(wire, 'downlink', algorithm.payload)
  needs_theta = wire.uplink in ('per_level', 'prior', 'dither')
  if needs_theta and algorithm.payload != 'theta':
    raise ValueError(
      f'config.wire.uplink = {wire.uplink!r} needs a theta that both ends know:'
      f" {name!r} broadcasts {algorithm.payload}. Use 'frequency'."
    )
  if wire.uplink == 'prior' and not compressor.symbols_are_the_mask:
    raise ValueError(
      "config.wire.uplink = 'prior' takes theta for the probability of a bit:"
      f" what {wire.compressor!r} sends are no masks. Use 'per_level' or"
      " 'frequency'."
    )


def _row(table, key: str, name: str):
  """The row that `config.<key>` names; ValueError lists the rows."""
  if name not in table:
    raise ValueError(
      f'config.{key} must be one of {sorted(table)}, got {name!r}.'
    )
  return table[name]
