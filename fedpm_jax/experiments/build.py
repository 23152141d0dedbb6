"""From a configuration, and objects of one's own, to the parts of a run.

Here names become rows of tables, and sections become keyword arguments.  A
mistake in a name or an option is found before any data is read.
"""

import difflib
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import linen as nn

from fedpm_jax import masks, models
from fedpm_jax.algorithms import ALGORITHMS
from fedpm_jax.algorithms.base import Algorithm
from fedpm_jax.compressors import COMPRESSORS
from fedpm_jax.compressors.base import Compressor
from fedpm_jax.data import checks, partition, sources, validation
from fedpm_jax.data.sources import Dataset
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import evaluation, options, own_parts, stopping
from fedpm_jax.experiments.config import Config
from fedpm_jax.experiments.schedules import SCHEDULES, Factor
from fedpm_jax.masks import Layout
from fedpm_jax.models import inputs, lowering
from fedpm_jax.models import network as networks
from fedpm_jax.models.network import Network
from fedpm_jax.protocol import robust
from fedpm_jax.protocol.method import Method, Names, compose
from fedpm_jax.simulation import examples
from fedpm_jax.system import text


class Parts(NamedTuple):
  """Objects of one's own, each in place of what the configuration names.

  Attributes:
    dataset: arrays; see `Dataset`.
    model: a Flax module, inputs `[B, ...]` to logits; images come in [-1, 1].
    algorithm: an `Algorithm`, or a function like the rows of `ALGORITHMS`.
    compressor: a `Compressor`, or a function like the rows of `COMPRESSORS`.
    optimizer: an optax transformation that needs nothing but gradients.
    clients: M arrays of indices into the training set.
  """

  dataset: Dataset | None = None
  model: nn.Module | None = None
  algorithm: Algorithm | Callable[..., Algorithm] | None = None
  compressor: Compressor | Callable[..., Compressor] | None = None
  optimizer: optax.GradientTransformation | None = None
  clients: Sequence[np.ndarray] | None = None


NO_PARTS = Parts()
_TYPES = {
  'dataset': ((Dataset,), 'a fedpm_jax.Dataset'),
  'model': ((nn.Module,), 'an instance of a Flax module (linen)'),
  'algorithm': (
    (Algorithm, Callable),
    'an Algorithm, or a function that makes one',
  ),
  'compressor': (
    (Compressor, Callable),
    'a Compressor, or a function that makes one',
  ),
}


def check(config: Config, parts: Parts = NO_PARTS) -> None:
  """Raises ValueError for whatever is wrong that needs no data to be seen."""
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(
      f"config must be a ConfigDict, such as fp.config('digits'), got {config!r}."
    )
  for name, (kinds, meaning) in _TYPES.items():
    thing = getattr(parts, name)
    if thing is not None and not isinstance(thing, kinds):
      got = text.one_line(text.short(thing))
      raise ValueError(f'{name} must be {meaning}, got {got}.')
  configs.validate(config)
  stopping.check(config)
  if parts.clients is not None and config.data.validation:
    raise ValueError(
      'clients are indices into the whole training set, of which'
      f' config.data.validation = {config.data.validation} holds out a part:'
      ' leave it at 0, and hand over a dataset with a test set of your own.'
    )
  _check_names(config, parts)
  step_factor(config)
  layout = Layout(('dense/kernel',), ((1, 1),), (1,))
  nothing = lambda *_: jnp.zeros(1)  # is never called
  if parts.algorithm or parts.compressor:
    optimizer(config, parts)
    return  # They may rely on the real network, so they are checked with it.
  method(config, Network(layout, nothing, nothing, {}), parts)


def _check_names(config: Config, parts: Parts) -> None:
  """ValueError for the first name that no table outside of `method` has."""
  tables = {
    'weights.kind': masks.WEIGHTS,
    'aggregation.weights': partition.WEIGHTS,
    'execution.dtype': networks.DTYPES,
    'execution.examples': examples.WAYS,
    'execution.lowering': ('auto', *lowering.LOWERINGS),
  }
  if parts.model is None:
    tables['model'] = models.MODELS
  if parts.clients is None:
    tables['data.partition'] = partition.PARTITIONS
    tables['data.sizes'] = partition.SIZES
  for path, table in tables.items():
    _check_name(table, path, configs.get(config, path))


def method(config: Config, network: Network, parts: Parts = NO_PARTS) -> Method:
  """The method of a configuration, on a network.

  Args:
    config: see `config.KEYS`.
    network: what it trains; nothing is computed yet.
    parts: objects in place of what the configuration names.

  Raises:
    ValueError: a name that no table has, an option that does not suit it, or
      parts that do not fit together.
  """
  algorithm_row = parts.algorithm or _row(
    ALGORITHMS, 'algorithm', config.algorithm
  )
  compressor_row = parts.compressor or _row(
    COMPRESSORS, 'wire.compressor', config.wire.compressor
  )
  if isinstance(compressor_row, Compressor):
    compressor = compressor_row
  else:
    name = '' if parts.compressor else config.wire.compressor
    compressor = _made(config, name, compressor_row, network.layout)
    own_parts.check_made(compressor, Compressor)
  optimizer_ = optimizer(config, parts)
  if isinstance(algorithm_row, Algorithm):
    algorithm = algorithm_row
  else:
    name = '' if parts.algorithm else config.algorithm
    given = {}
    if options.takes(algorithm_row, 'participation'):
      given['participation'] = config.clients_per_round / config.num_clients
    if options.takes(algorithm_row, 'compressor'):
      given['compressor'] = compressor
    algorithm = _made(config, name, algorithm_row, network, optimizer_, **given)
    own_parts.check_made(algorithm, Algorithm)
  names = _names(config, parts)
  evaluation.check(config, algorithm, names['algorithm'])
  made = compose(
    network,
    algorithm,
    compressor,
    uplink=config.wire.uplink,
    downlink=config.wire.downlink,
    private_randomness=config.wire.private_randomness,
    names=Names(*(names[k] for k in Names._fields)),
  )
  robust.check(made, config.robust.max_distance)
  return made


def optimizer(
  config: Config, parts: Parts = NO_PARTS
) -> optax.GradientTransformation:
  """The optimiser of local steps.

  Raises:
    ValueError: optax has no such optimiser, it refuses an option, or it needs
      more than gradients.
  """
  if parts.optimizer is not None:
    own_parts.check_optimizer(parts.optimizer, 'optimizer')
    return parts.optimizer
  name, learning_rate = config.optimizer.name, config.optimizer.learning_rate
  make = _row(configs.OPTIMIZERS, 'optimizer.name', name)
  if not learning_rate > 0:
    raise ValueError(
      f'config.optimizer.learning_rate must be positive, got {learning_rate}.'
    )
  made = _made(config, name, make, learning_rate)
  own_parts.check_optimizer(made, f'config.optimizer.name = {name!r}')
  return made


def step_factor(config: Config) -> Factor | None:
  """The factor on the learning rate by round; None where it is always 1.

  Raises:
    ValueError: there is no such schedule, or it refuses an option.
  """
  name = config.optimizer.schedule
  schedule = _row(SCHEDULES, 'optimizer.schedule', name)
  return _made(config, name, schedule, config.rounds)


def dataset(config: Config, parts: Parts = NO_PARTS) -> Dataset:
  """The data set, checked; its test set is the validation set, if there is one.

  Raises:
    DataNotFound: it is not prepared on this machine.
    ValueError: it cannot be trained on.
  """
  data = parts.dataset
  if data is None:
    data = sources.load(
      config.data.name,
      data_dir=config.data.dir or None,
      cache_dir=config.data.cache_dir or None,
    )
  share = config.data.validation
  if not share:
    return checks.checked(data)
  # So the check does not look at the test set either.
  data = checks.checked(data._replace(x_test=data.x_train, y_test=data.y_train))
  return validation.held_out(data, share, seed=config.seed)


def clients(
  config: Config, labels: np.ndarray, parts: Parts = NO_PARTS
) -> list[np.ndarray]:
  """Which examples each of the M clients holds.

  Raises:
    ValueError: the split is impossible, or one's own does not fit the data.
  """
  if parts.clients is not None:
    return checks.checked_clients(
      parts.clients, config.num_clients, len(labels)
    )
  return partition.split(
    config.data.partition,
    labels,
    num_clients=config.num_clients,
    seed=config.seed,
    classes_per_client=config.data.classes_per_client,
    alpha=config.data.alpha,
    sizes=config.data.sizes,
    max_examples=config.data.max_examples or None,
  )


def spec(
  config: Config, data: Dataset, parts: Parts = NO_PARTS
) -> networks.Spec:
  """What determines the random network."""
  return networks.Spec(
    model=_names(config, parts)['model'],
    image_shape=data.x_train.shape[1:],
    num_classes=data.num_classes,
    seed=config.seed,
    weight_kind=config.weights.kind,
    weight_gain=config.weights.gain,
    value_range=data.value_range,
    unscaled=inputs.kind(data.x_train.dtype, data.value_range),
  )


def describe(
  config: Config, parts: Parts = NO_PARTS, data: Dataset | None = None
) -> dict[str, Any]:
  """What determines a run, as JSON: written, compared, checkpointed.

  Objects of one's own are described by `networks.described`, their code, data
  and clients by a checksum.  Options of a row that an object replaces are left out.

  Args:
    config: of the run.
    parts: the objects.
    data: `parts.dataset` after `dataset`, if it was checked already.
  """
  plain, names = configs.to_dict(config), _names(config, parts)
  plain['model'], plain['algorithm'] = names['model'], names['algorithm']
  plain['wire']['compressor'] = names['compressor']
  for section, name in (
    (plain, 'model'),
    (plain, 'algorithm'),
    (plain['wire'], 'compressor'),
  ):
    part = getattr(parts, name)
    if part is not None:
      section[name] += f' {own_parts.digest(part)}'
  replaced = {
    config.algorithm: parts.algorithm,
    config.wire.compressor: parts.compressor,
    config.optimizer.name: parts.optimizer,
  }
  for section, thing in replaced.items():
    if thing is not None:
      plain.pop(section, None)
  if parts.optimizer is not None:
    schedule = config.optimizer.schedule
    name = f'own: {own_parts.first_steps(parts.optimizer)}'
    plain['optimizer'] = {'name': name, 'schedule': schedule}
  if parts.dataset is not None:
    data = data or dataset(config, parts)
    plain['data']['name'] = f'own: {data.name} {checks.fingerprint(data)}'
  if parts.clients is not None:
    arrays = [np.asarray(part, np.int32) for part in parts.clients]
    plain['data']['partition'] = f'own: {checks.checksum(arrays)}'
  return plain


def _names(config: Config, parts: Parts) -> dict[str, str]:
  """How the parts are called, in errors and in what is written."""
  return {
    'model': _called(parts.model, config.model),
    'algorithm': _called(parts.algorithm, config.algorithm),
    'compressor': _called(parts.compressor, config.wire.compressor),
  }


def _called(thing: Any, name: str) -> str:
  """The name, or a description of the object in its place."""
  return name if thing is None else f'own: {networks.described(thing)}'


def _row(table: dict[str, Any], path: str, name: str) -> Any:
  """The row that `config.<path>` names; ValueError lists the rows."""
  _check_name(table, path, name)
  return table[name]


def _check_name(table: Collection[str], path: str, name: str) -> None:
  """ValueError unless a table has the row that `config.<path>` names."""
  if name not in table:
    near = difflib.get_close_matches(name.lower(), table, 1)
    hint = f' Did you mean {near[0]!r}?' if near else ''
    raise ValueError(
      f'config.{path} must be one of {sorted(table)}, got {name!r}.{hint}'
    )


def _made(
  config: Config,
  name: str,
  make: Callable[..., Any],
  *args: Any,
  **given: Any,
) -> Any:
  """What a row makes of its arguments and of the options in its section."""
  chosen = configs.options_of(config, name)
  try:
    return make(*args, **given, **chosen)
  except (TypeError, ValueError) as error:
    where = f'config.{name}' if name else 'own part'
    raise ValueError(f'{where}: {error}') from error
