"""Parts of one's own: data, model, algorithm, compressor, optimiser and split."""

import functools
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_runs
from flax import linen as nn

import fedpm_jax as fp
from fedpm_jax.algorithms import fedpm
from fedpm_jax.compressors import bernoulli, qsgd
from fedpm_jax.experiments import codec_report, sweeps
from fedpm_jax.models import network

ROOT = pathlib.Path(__file__).parents[1]


class TinyCNN(nn.Module):
  """A user's own network, plain Flax."""

  num_classes: int

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(4, (3, 3))(x))
    x = nn.max_pool(x, (2, 2), (2, 2)).reshape(len(x), -1)
    return nn.Dense(self.num_classes)(x)


def own_data():
  """Floats in [0, 1] whose class shows in which rows are bright."""
  rng = np.random.default_rng(0)
  labels = np.arange(120) % 3
  images = 0.2 * rng.random((120, 6, 6, 2)).astype(np.float32)
  for image, label in zip(images, labels, strict=True):
    image[2 * label : 2 * label + 2] += np.float32(0.7)
  return fp.Dataset(
    'rows',
    images[:90],
    labels[:90],
    images[90:],
    labels[90:],
    3,
    value_range=(0.0, 1.0),
  )


def halved(network, optimizer, *, participation):
  """A user's own algorithm: FedPM whose server moves half of the way."""
  algorithm = fedpm.fedpm(network, optimizer, participation=participation)

  def server_update(state, total, count, round_idx):
    new, info = algorithm.server_update(state, total, count, round_idx)
    q = (new.q.astype(jnp.int32) + state.q.astype(jnp.int32)) // 2
    return new._replace(q=q.astype(jnp.uint16)), info

  return algorithm._replace(
    server_update=server_update,
    # The next theta depends on the last one, so nobody can foresee it.
    depends_only_on_round=lambda round_idx: False,
  )


def own_parts():
  """Data, model, algorithm, compressor, optimiser and split of one's own."""
  rng = np.random.default_rng(1)
  return {
    'dataset': own_data(),
    'model': TinyCNN(3),
    'algorithm': halved,
    'compressor': bernoulli.bernoulli,
    'optimizer': optax.chain(optax.clip(1.0), optax.adam(0.1)),
    'clients': np.array_split(rng.permutation(90), 3),
  }


def own_config(**changes):
  return small_runs.small(**{'rounds': 3, 'wire.keep_every': 1} | changes)


def test_everything_may_be_ones_own(tmp_path):
  parts = own_parts()
  run = fp.Experiment(own_config(rounds=12, local_epochs=3), **parts)
  rows = list(run.rounds())
  assert rows[-1]['eval/accuracy_mean'] > 0.9
  layout = run.engine.method.network.layout
  assert set(run.theta()) == set(layout.names)
  assert run.theta()['Conv_0/kernel'].shape == (3, 3, 2, 4)
  model = run.model()
  model.save(tmp_path / 'own.fedpm')
  with pytest.raises(ValueError, match=r'TinyCNN.*load\(path, model=...\)'):
    fp.load(tmp_path / 'own.fedpm')
  loaded = fp.load(tmp_path / 'own.fedpm', model=parts['model'])
  images = parts['dataset'].x_test
  np.testing.assert_array_equal(loaded(images), model(images))
  right = np.argmax(loaded(images), axis=1) == parts['dataset'].y_test
  assert right.mean() > 0.8
  with pytest.raises(ValueError, match='Expected float32 inputs'):
    loaded(np.zeros((2, 6, 6, 2), np.uint8))


def test_a_recorded_run_of_ones_own_continues_and_is_told_apart(tmp_path):
  parts = own_parts()
  whole = fp.train(own_config(), tmp_path / 'whole', **parts)
  stops = iter([False, True])
  with pytest.raises(Exception, match='Stopped after round 2'):
    fp.train(own_config(), tmp_path / 'cut', stop=lambda: next(stops), **parts)
  again = fp.train(own_config(), tmp_path / 'cut', **parts)
  for name, value in whole['last'].items():
    if not name.startswith('time/'):
      assert again['last'][name] == value, name
  with pytest.raises(
    ValueError, match=r'data.name: .*model: .own: TinyCNN\(num_classes=3\)'
  ):
    fp.train(own_config(), tmp_path / 'cut')
  other = parts | {'clients': parts['clients'][::-1]}
  with pytest.raises(ValueError, match=r'data.partition: .own: .* there, .own'):
    fp.train(own_config(), tmp_path / 'cut', **other)
  table = codec_report.compare_codecs(tmp_path / 'whole', **parts)
  assert '| 2 |' in table or '| 3 |' in table
  with pytest.raises(ValueError, match=r'a model of its own .*model=\.\.\.'):
    codec_report.compare_codecs(tmp_path / 'whole')


SWEEP = """
import sys
sys.path.insert(0, {tests!r})
import test_own_parts
from fedpm_jax.experiments import sweeps


def get_sweep():
  return [
    sweeps.Run(
      {{'data': 'own', 'method': 'halved', 'seed': str(seed)}},
      test_own_parts.own_config(seed=seed, rounds=1),
      test_own_parts.own_parts,
    )
    for seed in (0, 1)
  ]
"""


def test_a_sweep_may_be_of_ones_own(tmp_path):
  """In processes, which load the sweep's file anew."""
  path = tmp_path / 'mine.py'
  path.write_text(SWEEP.format(tests=str(ROOT / 'tests')))
  runs = sweeps.read(path)
  assert sweeps.execute(runs, tmp_path / 'runs', jobs=1, source=path) == 0
  for run in runs:
    folder = tmp_path / 'runs' / sweeps.directory(run.labels)
    assert sweeps.is_finished(folder, run)


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    ({'clients': [np.arange(5)]}, r'config.num_clients = 3 arrays.* got 1'),
    ({'clients': [[0.5], [1], [2]]}, r'clients\[0\] must be integers'),
    ({'clients': [[0], [], [1]]}, r'clients\[1\] must be integers'),
    (
      {'clients': [[0], [90], [1]]},
      r'clients\[1\] must hold indices in \[0, 9',
    ),
    ({'optimizer': optax.lbfgs()}, 'needs more than gradients'),
    ({'optimizer': 'adam'}, 'must make an optax.GradientTransformation'),
    ({'model': 'cnn'}, "model must be an instance of a Flax module.*'cnn'"),
    ({'model': TinyCNN}, 'model must be an instance of a Flax module'),
    ({'compressor': 'sign'}, 'compressor must be a Compressor, or a function'),
    (
      {'compressor': lambda layout: 3},
      'The compressor must be of type Compressor, got 3',
    ),
    (
      {'algorithm': lambda *_: None},
      'The algorithm must be of type Algorithm, got None',
    ),
    ({'dataset': (1, 2)}, 'dataset must be a fedpm_jax.Dataset, got'),
    ({'model': TinyCNN(4)}, r'TinyCNN must return logits \[B, num_classes = 3'),
    ({'model': nn.BatchNorm(use_running_average=True)}, 'running statistics'),
    ({'model': nn.LayerNorm()}, 'logits'),
    ({'model': nn.Sequential([nn.Dropout(0.5, deterministic=False)])}, 'pure'),
  ],
)
def test_parts_that_do_not_fit(parts, message):
  with pytest.raises(ValueError, match=message):
    fp.Experiment(own_config(), **({'dataset': own_data()} | parts))


class Untouchable:
  """Whatever is done with it fails."""

  def __getattribute__(self, name):
    raise AssertionError(f'the test set was read: {name}')


def test_with_validation_the_test_set_of_ones_own_is_never_read(tmp_path):
  data = own_data()
  sealed = data._replace(x_test=Untouchable(), y_test=Untouchable())
  changes = {'rounds': 1, 'data.validation': 0.2}
  run = fp.Experiment(own_config(**changes), dataset=sealed)
  assert (len(run.dataset.y_train), len(run.dataset.y_test)) == (72, 18)
  assert max(part.max() for part in run.client_examples) < 72
  (row,) = run.rounds()
  # As if someone had cut the same arrays by hand.
  by_hand = fp.Experiment(own_config(rounds=1), dataset=run.dataset)
  (other,) = by_hand.rounds()
  assert {k: v for k, v in row.items() if 'time' not in k} == {
    k: v for k, v in other.items() if 'time' not in k
  }
  fp.train(own_config(**changes), tmp_path / 'run', dataset=sealed)
  with pytest.raises(ValueError, match=r'data\.validation: 0\.2 there, 0\.1'):
    fp.train(
      own_config(**changes | {'data.validation': 0.1}),
      tmp_path / 'run',
      dataset=sealed,
    )


def test_clients_of_ones_own_need_the_whole_training_set():
  config = own_config(**{'data.validation': 0.2})
  with pytest.raises(ValueError, match=r'validation = 0\.2 holds out.*at 0'):
    fp.Experiment(config, dataset=own_data(), clients=own_parts()['clients'])


class Branches(nn.Module):
  """Fields that cannot be hashed, and one without a name of its own."""

  widths: list
  act: Any = nn.relu

  @nn.compact
  def __call__(self, x):
    x = x.reshape(len(x), -1)
    for width in self.widths:
      x = self.act(nn.Dense(width)(x))
    return x


def test_descriptions_are_the_same_in_every_process():
  """A run continues in another process, where addresses are others."""
  module = Branches(
    [4, 3], functools.partial(nn.leaky_relu, negative_slope=0.5)
  )
  assert network.described(module) == (
    'Branches(widths=(4, 3), act=leaky_relu(negative_slope=0.5))'
  )
  assert network.described(Branches([3])) == 'Branches(widths=(3), act=relu)'
  assert network.described(nn.Sequential([nn.Dense(3)])).startswith(
    'Sequential(layers=(Dense(features=3, use_bias=True'
  )


def test_a_module_that_cannot_be_hashed_gets_a_model_file(tmp_path):
  parts = {'dataset': own_data(), 'model': Branches([4, 3])}
  fp.train(own_config(rounds=1), tmp_path, **parts)
  model = fp.load(tmp_path / 'model.fedpm', model=parts['model'])
  assert len(repr(model)) < 150
  with pytest.raises(
    ValueError, match=r'trained with .*\(4, 3\).*got .*\(5, 3'
  ):
    fp.load(tmp_path / 'model.fedpm', model=Branches([5, 3]))


def test_numpy_numbers_in_a_data_set_are_numbers():
  data = own_data()
  low, high = data.x_train.min(), data.x_train.max()
  data = data._replace(
    num_classes=data.y_train.max() + 1,
    x_test=data.x_test.clip(low, high),
    value_range=[low, high],
  )
  run = fp.Experiment(own_config(), dataset=data, model=TinyCNN(3))
  assert run.model().spec.value_range == (float(low), float(high))


def test_other_data_of_ones_own_is_another_run():
  data, described = own_data(), []
  half = data._replace(y_train=data.y_train.astype(np.int16))
  wider = data._replace(value_range=(-1.0, 2.0))
  for each in (data, half, wider):
    run = fp.Experiment(own_config(), dataset=each, model=TinyCNN(3))
    described.append(run.description['data']['name'])
  assert described[0] == described[1] != described[2]
  steps = set()
  for optimizer in (optax.adam(0.1), optax.adam(0.02), optax.sgd(0.1)):
    parts = own_parts() | {'optimizer': optimizer}
    run = fp.Experiment(own_config(), **parts)
    steps.add(run.description['optimizer']['name'])
  assert len(steps) == 3
  splits = []
  for ends in ([30, 60], [20, 60]):
    clients = np.split(np.arange(90), ends)
    run = fp.Experiment(own_config(), **own_parts() | {'clients': clients})
    splits.append(run.description['data']['partition'])
  assert splits[0] != splits[1]


def test_a_run_does_not_go_on_with_another_body_of_a_model(tmp_path):
  def model():
    class Own(nn.Module):
      @nn.compact
      def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))

    return Own()

  def other():
    class Own(nn.Module):
      @nn.compact
      def __call__(self, x):
        return nn.Dense(3)(-x.reshape(len(x), -1))

    return Own()

  config, data = own_config(rounds=1), own_data()
  fp.train(config, tmp_path, dataset=data, model=model())
  fp.train(config, tmp_path, dataset=data, model=model())
  with pytest.raises(ValueError, match=r"model: 'own: Own\(\) \w{8}' there"):
    fp.train(config, tmp_path, dataset=data, model=other())


def changed(spread):
  """A compressor whose name says nothing of its constant."""

  def quantised(layout, *, spread=spread):
    return qsgd.qsgd(layout, levels=round(1 / spread))

  return quantised


def test_a_run_does_not_go_on_with_other_code(tmp_path):
  config = own_config(rounds=1)
  config.update_from_flattened_dict(
    {'algorithm': 'fedavg', 'wire.uplink': 'levels', 'wire.downlink': 'raw'}
  )
  data = own_data()
  parts = {'dataset': data, 'compressor': changed(0.5)}
  done = fp.train(config, tmp_path, **parts)
  assert 'quantised' in done['config']['wire']['compressor']
  assert fp.train(config, tmp_path, **parts)['last'] == done['last']
  parts['compressor'] = changed(0.25)
  with pytest.raises(ValueError, match=r"wire.compressor: 'own: .*quantised"):
    fp.train(config, tmp_path, **parts)
