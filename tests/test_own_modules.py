"""A module of one's own whose parameters are not kernels and biases alone."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from test_own_parts import own_config, own_data

import fedpm_jax as fp
from fedpm_jax import masks
from fedpm_jax.federation import agreement
from fedpm_jax.models import network as networks
from fedpm_jax.protocol.model_file import ModelFileError


class Attentive(nn.Module):
  """Norms, places and attention; the scale of a norm is no field of it."""

  num_classes: int = 3

  @nn.compact
  def __call__(self, x):
    x = nn.GroupNorm(4, name='first')(nn.Conv(8, (2, 2), (2, 2))(x))
    x = nn.relu(x).reshape(len(x), -1, 8)
    normal = nn.initializers.normal(0.02)
    x = x + self.param('place', normal, (1, x.shape[1], 8))
    norm = nn.LayerNorm(scale_init=nn.initializers.constant(self.scale()))
    x = x + nn.MultiHeadDotProductAttention(2, name='attention')(norm(x))
    return nn.Dense(self.num_classes)(x.reshape(len(x), -1))

  def scale(self):
    return 1.0


class Halved(Attentive):
  """Another initial value, which nothing but the value itself tells."""

  def scale(self):
    return 0.5


Halved.__name__ = 'Attentive'
FROZEN = {
  *(f'first/{kind}' for kind in ('bias', 'scale')),
  *(f'LayerNorm_0/{kind}' for kind in ('bias', 'scale')),
}


def test_it_trains_is_saved_and_loaded(tmp_path, capsys):
  config = own_config(rounds=12, local_epochs=3)
  parts = {'dataset': own_data(), 'model': Attentive()}
  summary = fp.train(config, tmp_path, verbose=True, **parts)
  assert summary['last']['eval/accuracy_mean'] > 0.9
  assert 'Frozen at their initial values' in capsys.readouterr().out
  model = fp.load(tmp_path / 'model.fedpm', model=Attentive())
  right = np.argmax(model(own_data().x_test), axis=1) == own_data().y_test
  assert right.mean() > 0.8
  # Nothing of what is frozen is in the file, or counted in bits a parameter.
  assert len(model.mask) == model.layout.num_parameters
  assert not FROZEN & set(model.layout.names)
  with pytest.raises(ModelFileError, match='other initial values'):
    fp.load(tmp_path / 'model.fedpm', model=Halved())


def test_the_parameters_of_the_mean_network_are_all_of_them():
  """Flax, given them, computes what the network does."""
  run = fp.Experiment(own_config(), dataset=own_data(), model=Attentive())
  mean, theta = run.mean_parameters(), run.theta()
  assert mean.keys() - theta.keys() == FROZEN
  tree = {}
  for path, value in mean.items():
    *layers, leaf = path.split('/')
    node = tree
    for layer in layers:
      node = node.setdefault(layer, {})
    node[leaf] = value
  network, key = run.engine.method.network, jax.random.key(0)
  flat = run.engine.method.algorithm.eval_params(run.state.server, key)['mean']
  images = own_data().x_test
  np.testing.assert_allclose(
    Attentive().apply({'params': tree}, 2 * images - 1),
    network.apply(masks.unravel(network.layout, flat), images),
    rtol=1e-5,
    atol=1e-5,
  )


def test_dense_methods_train_the_same_parameters():
  config = own_config(algorithm='fedavg', rounds=2)
  config.wire.compressor, config.wire.uplink = 'identity', 'raw'
  config.wire.downlink = 'raw'
  parts = {'dataset': own_data(), 'model': Attentive()}
  dense = fp.Experiment(config, **parts)
  masked = fp.Experiment(own_config(), **parts)
  layout = dense.engine.method.network.layout
  assert layout == masked.engine.method.network.layout
  start = dense.mean_parameters()
  for name in layout.names:
    is_zero = not start[name].any()
    assert is_zero == name.endswith('bias'), name
  rows = list(dense.rounds())
  assert all(np.isfinite(row['train/loss']) for row in rows)
  end = dense.mean_parameters()
  for name in end:
    assert (name in FROZEN) == np.array_equal(start[name], end[name]), name


def test_a_server_and_a_client_must_have_the_same_frozen_values():
  spec = networks.Spec('own', (6, 6, 2), 3, 0, 'normal', 1.0, (0.0, 1.0))
  description = {'rounds': 1, 'data': {}, 'wire': {}}
  one, same, other = (
    agreement.of(description, spec, networks.build(spec, module=module))
    for module in (Attentive(), Attentive(), Halved())
  )
  assert one.hashes == same.hashes
  assert one.hashes != other.hashes
  assert 'network.frozen' in agreement.differences(one, other.to_json())
  plain = agreement.of(description, spec, networks.build(spec, module=Plain()))
  assert 'frozen' not in plain.terms['network']


class Plain(nn.Module):
  """Nothing but a layer."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(x.reshape(len(x), -1))


class Dropping(nn.Module):
  """Linear in its images, so that the mean over what is dropped is known."""

  rate: float = 0.5

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Dropout(self.rate, deterministic=not train)(x.reshape(len(x), -1))
    return nn.Dense(3)(x)


class Deterministic(nn.Module):
  """The other name of the argument."""

  @nn.compact
  def __call__(self, x, deterministic: bool = True):
    return Dropping()(x, train=not deterministic)


DROPOUT_SPEC = networks.Spec('own', (6, 6, 2), 3, 0, 'normal', 1.0, (0.0, 1.0))


@pytest.mark.parametrize('module', [Dropping(), Deterministic()])
def test_dropout_is_on_in_training_and_off_in_evaluation(module):
  network = networks.build(DROPOUT_SPEC, module=module)
  params = masks.unravel(network.layout, network.weights())
  images = own_data().x_test[:5]
  whole = network.apply(params, images)
  np.testing.assert_array_equal(whole, network.apply(params, images))
  keys_ = jax.random.split(jax.random.key(0, impl='threefry4x32'), 4000)
  dropped = jax.vmap(lambda key: network.in_training(key)(params, images))
  logits = np.asarray(dropped(keys_))
  np.testing.assert_array_equal(logits[:2], dropped(keys_[:2]))
  spread = logits.std(0)
  assert spread.min() > 0.05
  error = np.abs(logits.mean(0) - whole) / (spread / 4000**0.5)
  assert error.max() < 4.5


def test_a_module_without_dropout_is_the_same_in_training():
  network = networks.build(DROPOUT_SPEC, module=Attentive())
  assert network.in_training(jax.random.key(0)) is network.apply


METHODS = {
  'fedpm': {},
  'fedmask': {'algorithm': 'fedmask', 'wire.compressor': 'mask'}
  | {'wire.uplink': 'per_level'},
  'fedavg': {'algorithm': 'fedavg', 'wire.compressor': 'identity'}
  | {'wire.uplink': 'raw', 'wire.downlink': 'raw'},
  'fedmrn': {'algorithm': 'fedmrn', 'wire.compressor': 'mrn'}
  | {'wire.uplink': 'frequency'},
}


@pytest.mark.parametrize('method', METHODS)
def test_every_algorithm_drops_alike_however_clients_are_run(method):
  """Two clients side by side draw what each of them draws alone."""

  def losses(module, **changes):
    config = own_config(rounds=1, num_clients=2, clients_per_round=2)
    config.update_from_flattened_dict(METHODS[method] | changes)
    run = fp.Experiment(config, dataset=own_data(), model=module)
    (row,) = run.rounds()
    return row['train/loss']

  alone = losses(Dropping(), **{'execution.chunk': 1, 'execution.devices': 1})
  beside = losses(Dropping(), **{'execution.chunk': 2, 'execution.devices': 1})
  assert alone == pytest.approx(beside, rel=1e-5)
  assert losses(Dropping(0.0)) != pytest.approx(alone, rel=1e-3)
