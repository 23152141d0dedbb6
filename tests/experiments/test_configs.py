"""Every experiment builds, and a round of it has the shapes it should."""

import math
import pathlib

import jax
import numpy as np
import pytest

from fedpm_jax import codecs
from fedpm_jax.data import sources
from fedpm_jax.experiments import build, config_files, sweeps
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.protocol.client import Shared
from fedpm_jax.simulation import cohort as turns

FOLDER = pathlib.Path(__file__).parents[2] / 'configs'
# name: (image shape, classes, training examples, d)
DATA = {
  'digits': ((8, 8, 1), 10, 1437, 458_698),
  'methods': ((8, 8, 1), 10, 1437, 458_698),
  'mnist': ((28, 28, 1), 10, 60_000, 1_933_258),
  'emnist': ((28, 28, 1), 47, 112_800, 1_942_767),
  'cifar10': ((32, 32, 3), 10, 50_000, 2_262_602),
  'cifar10_partial': ((32, 32, 3), 10, 50_000, 2_262_602),
  'cifar100': ((32, 32, 3), 100, 50_000, 19_197_092),
}


def load(name):
  return config_files.load(FOLDER / f'{name}.py')


def fake(name, shape, classes, examples):
  """A data set of the right shape whose images take no memory."""
  labels = (np.arange(examples) % classes).astype(np.int32)
  images = np.broadcast_to(np.uint8(0), (examples, *shape))
  few = np.zeros((20, *shape), np.uint8), labels[:20]
  return sources.Dataset(name, images, labels, *few, classes)


def test_every_config_is_tested():
  assert {path.stem for path in FOLDER.glob('*.py')} == set(DATA)


@pytest.mark.parametrize('name', DATA)
def test_round_of_a_config(name, monkeypatch):
  shape, classes, examples, d = DATA[name]
  # Shapes only: the images stay where they are.
  monkeypatch.setattr(turns.jax, 'device_put', lambda data, *_: data)
  config = load(name).get_config()
  config.execution.devices = 1  # K need not be a multiple of anything.
  experiment = Experiment(config, dataset=fake(name, shape, classes, examples))
  engine, trainer = experiment.engine, experiment.engine.trainer
  cohort = experiment.cohort(0)
  k = config.clients_per_round
  state = jax.eval_shape(engine.init)
  received = jax.eval_shape(trainer.receive, state.server.q)
  turn = jax.eval_shape(
    trainer.clients_step,
    Shared(state.server.q, received, *trainer.data),
    trainer.work(cohort, 0),
    (),
  )
  assert turn.symbols.shape == (k, -(-d // 8))
  assert turn.sums.loss.shape == (k,)
  total = jax.eval_shape(
    engine.aggregation.add,
    jax.eval_shape(engine.aggregation.start),
    np.zeros(4, np.uint32),
    jax.ShapeDtypeStruct(turn.symbols.shape[1:], turn.symbols.dtype),
    state.server.q,
  )
  finish = lambda state, total: engine.aggregation.finish(state, total, k, 0)
  server, _ = jax.eval_shape(finish, state.server, total)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), server) == jax.tree.map(
    lambda x: (x.shape, x.dtype), state.server
  )
  assert cohort.valid.sum() > 0


@pytest.mark.parametrize('name', sorted({*DATA} - {'digits', 'methods'}))
def test_the_official_recipe_has_the_official_switches(name):
  ours = load(name).get_config()
  official = load(name).get_config('official')
  changed = {
    path: configs.get(official, path)
    for path in configs.every_key()
    if configs.get(official, path) != configs.get(ours, path)
  }
  assert changed == {
    'fedpm.estimator': 'official',
    'fedpm.persistent_optimizer': True,
    'fedpm.bit_price': 0.0,
    'fedpm.soft_counts': True,
    'weights.gain': math.e,
  }
  build.check(official)
  with pytest.raises(
    ValueError, match=r"one of \['official', 'ours'\], got 'x'"
  ):
    load(name).get_config('x')


@pytest.mark.parametrize('name', load('methods').METHODS)
def test_every_method_is_named_and_fits_together(name):
  config = load('methods').get_config(name)
  experiment = Experiment(config, dataset=fake('digits', *DATA['digits'][:3]))
  method = experiment.engine.method
  state = jax.eval_shape(experiment.engine.init)
  payload = jax.eval_shape(method.algorithm.broadcast, state.server)
  assert payload.shape == (DATA['digits'][3],)
  assert payload.dtype == codecs.base.DTYPES[method.algorithm.payload]
  with pytest.raises(ValueError, match=r"Expected one of .*got 'x'"):
    load('methods').get_config('x')


@pytest.mark.parametrize('path', sorted(FOLDER.glob('sweeps/*.py')))
def test_every_sweep_reads(path):
  runs = sweeps.read(path)
  methods = tuple(load('methods').METHODS)
  assert all(run.labels['method'].startswith(methods) for run in runs)
  assert f'--config=configs/sweeps/{path.name}' in path.read_text()


def test_constants_are_chosen_on_a_validation_set():
  for run in sweeps.read(FOLDER / 'sweeps' / 'tuning.py'):
    assert run.config.data.validation == 0.2, run.labels


@pytest.mark.parametrize('name', DATA)
def test_header_names_the_command(name):
  assert 'python -m fedpm_jax.train' in load(name).__doc__


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('rounds', 0, 'config.rounds must be at least 1, got 0'),
    ('batch_size', 0, 'config.batch_size must be at least 1'),
    ('seed', -1, r'config.seed must lie in \[0, 2\^32\)'),
    ('clients_per_round', 11, 'cannot exceed config.num_clients = 10'),
    ('model', 'vgg', "model must be one of .*got 'vgg'"),
    ('data.max_examples', -1, 'config.data.max_examples must be at least'),
    ('data.partition', 'x', r"config.data.partition must be one of .*'x'"),
    ('weights.kind', 'x', "weights.kind must be one of .*got 'x'"),
    ('weights.gain', 0.0, 'weights.gain must be positive'),
    ('algorithm', 'x', "algorithm must be one of .*got 'x'"),
    ('fedpm.lambda_0', 0.0, 'config.fedpm: lambda_0 must be at least 1'),
    ('fedpm.lambda_0', float('nan'), 'config.fedpm.lambda_0 must be finite'),
    ('algorithm', 'fedavg', 'sends a delta.*turns a theta into a mask'),
    ('wire.downlink', 'raw', 'must be a codec of theta symbols'),
    ('wire.compressor', 'mask_delta', "'dither' is for masks that are drawn"),
    ('optimizer.name', 'x', "optimizer.name must be one of .*got 'x'"),
    ('optimizer.name', 'constant_schedule', 'optimizer.name must be one of'),
    ('optimizer.name', 'lbfgs', "'lbfgs' needs more than gradients"),
    ('optimizer.schedule', 'x', "schedule must be one of .*got 'x'"),
    ('optimizer.learning_rate', 0.0, 'learning_rate must be positive'),
    ('wire.uplink', 'x', "uplink must be one of .*got 'x'"),
    ('wire.uplink', 'theta_raw', 'carries theta'),
    ('wire.downlink', 'bitpack', 'carries mask'),
    (
      'wire.compressor',
      'relative_entropy',
      r"index symbols, one of \['index'\]",
    ),
    ('wire.private_randomness', True, "'dither' derives.*'prior'"),
    ('wire.keep_every', -1, 'keep_every must be at least 0, got -1'),
    ('wire.compressor', 'x', "compressor must be one of .*got 'x'"),
    ('execution.lowering', 'x', "lowering.*'x'"),
    ('data.validation', 1.0, r'validation must lie in \[0, 1\), got 1'),
    ('data.validation', -0.1, r'validation must lie in \[0, 1\), got -0'),
    ('data.validation', 1e-4, 'holds out 0 of 1437 training examples'),
    ('evaluation.masks', 0, 'config.evaluation.masks must be at least 1'),
  ],
)
def test_bad_values(key, value, message):
  config = configs.default()
  with config.unlocked():
    config.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=message):
    Experiment(config)


@pytest.mark.parametrize('recipe', ['ours', 'official'])
def test_the_papers_size_has_both_recipes_of_cifar10(recipe):
  """Whatever the rows of methods.py set for the digits."""
  runs = load('sweeps/paper').get_sweep()
  names = {'ours': 'fedpm', 'official': 'fedpm_official'}
  trained = [
    run.config for run in runs if run.labels['method'] == names[recipe]
  ]
  assert trained
  expected = load('cifar10').get_config(recipe)
  for config in trained:
    assert config.adam == expected.adam
    assert config.optimizer == expected.optimizer
    assert config.weights == expected.weights
    assert config.fedpm.bit_price == expected.fedpm.bit_price
    assert config.fedpm.soft_counts == expected.fedpm.soft_counts


@pytest.mark.parametrize('method', load('methods').METHODS)
def test_several_masks_need_a_method_that_samples_them(method):
  config = load('methods').get_config(method)
  config.evaluation.masks = 3
  if config.algorithm not in ('fedavg', 'fedavg_grid', 'fedmrn', 'signsgd'):
    build.check(config)
    return
  config.data.name = 'not_prepared'  # It is said before data is read.
  message = rf"masks = 3 needs .* masks, got '{config.algorithm}'.*\['mean'\]"
  with pytest.raises(ValueError, match=message):
    Experiment(config)


@pytest.mark.filterwarnings('ignore::DeprecationWarning:optax')
@pytest.mark.filterwarnings('ignore:Specifying a key')
@pytest.mark.parametrize('name', configs.OPTIMIZERS)
def test_every_optimizer_of_optax_suits_but_those_that_need_more(name):
  config = configs.default()
  config.optimizer.name = name
  if name == 'lbfgs':
    with pytest.raises(ValueError, match='needs more than gradients'):
      build.optimizer(config)
  else:
    assert callable(build.optimizer(config).update)


def test_options_of_an_optimizer_reach_it():
  config = configs.default()
  config.optimizer.name = 'sgd'
  assert config.sgd.momentum is None
  configs.override(config, 'sgd.momentum', '0.9')
  optimizer = build.optimizer(config)
  state = optimizer.init(np.zeros(2, np.float32))
  gradient = np.ones(2, np.float32)
  _, state = optimizer.update(gradient, state)
  updates, _ = optimizer.update(gradient, state)
  np.testing.assert_allclose(updates, -0.1 * 1.9)


@pytest.mark.parametrize(
  'key',
  [
    *('model', 'weights.kind', 'data.partition', 'data.sizes'),
    *('execution.dtype', 'execution.lowering', 'optimizer.schedule'),
  ],
)
def test_a_wrong_name_is_found_before_data_is_read(key):
  config = configs.default()
  config.update_from_flattened_dict({key: 'x', 'data.name': 'not_prepared'})
  with pytest.raises(ValueError, match=rf"config\.{key} must be one of .*'x'"):
    Experiment(config)
