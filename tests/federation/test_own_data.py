"""A client's own file, which stays where it is."""

import federations as f
import numpy as np
import pytest
from local_grid import LocalGrid, Node

from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.federation import settings
from fedpm_jax.federation.node import Node as Client
from fedpm_jax.federation.node import own_data


def test_clients_with_their_part_in_a_file_are_the_simulation(tmp_path):
  told = f.told()
  simulated = f.simulate(tmp_path / 'simulated', told)
  run = Experiment(settings.read(told).config)
  nodes = {}
  for i, part in enumerate(run.client_examples):
    path = tmp_path / f'{i}.npz'
    data = run.dataset
    np.savez(path, images=data.x_train[part], labels=data.y_train[part])
    node = {'partition-id': i, 'data': str(path), 'num-classes': 10}
    nodes[f.node_id(i)] = Node(node, told)
  rows = f.federate(tmp_path / 'federated', LocalGrid(nodes), told)
  assert f.common(rows) == f.common(simulated)
  assert f.digest(tmp_path / 'federated') == f.digest(tmp_path / 'simulated')


def test_a_client_holds_its_own_examples_alone():
  """Of the data set that all could read: a process may have many clients."""
  config = settings.read(f.told()).config
  run = Experiment(config)
  own = run.client_examples[2]
  client = Client(config, 2)
  np.testing.assert_array_equal(client._images, run.dataset.x_train[own])
  np.testing.assert_array_equal(client._labels, run.dataset.y_train[own])


def test_examples_of_another_shape_are_refused(tmp_path, caplog):
  told = f.told('--config.rounds=1')
  grid = f.grid_of(told)
  images = np.random.default_rng(0).integers(0, 256, (16, 9, 8, 1))
  path = tmp_path / 'mine.npz'
  np.savez(path, images=images.astype(np.uint8), labels=np.arange(16) % 10)
  node = {'partition-id': 2, 'data': str(path), 'num-classes': 10}
  grid.nodes[f.node_id(2)] = Node(node, told)
  (row,) = f.federate(tmp_path / 'run', grid, told)
  assert row['federation/answers'] == 3
  assert 'network.image_shape: [9, 8, 1] there, [8, 8, 1] here' in caplog.text


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    (None, 'There is no file .*mine.npz: see --node-config'),
    ({'images': np.zeros((4, 8, 8, 1), np.uint8)}, 'arrays .*images.*labels'),
    (
      {'images': np.array([{}], object), 'labels': np.zeros(1, int)},
      'must be an .npz file',
    ),
    (
      {
        'images': np.zeros((4, 8, 8, 1), np.uint8),
        'labels': np.array([0, 1, 10, 2]),
      },
      r'mine.npz: labels must lie in \[0, num_classes = 10',
    ),
  ],
)
def test_a_file_that_will_not_do_is_named(tmp_path, arrays, message):
  path = tmp_path / 'mine.npz'
  if arrays:
    np.savez(path, **arrays)
  with pytest.raises(ValueError, match=message):
    own_data(path, 10)


@pytest.mark.parametrize(
  ('told', 'message'),
  [
    ({'rounds': 5}, 'has the keys .* got .*rounds.*flags='),
    ({'flags': '--config.round=5'}, 'did you mean config.rounds'),
    ({'flags': '--rounds=5'}, "of the form '--config.KEY=VALUE'"),
    ({'timeout': -1.0}, 'timeout must be a number from 0 on, got -1.0'),
    ({'config': 'digit'}, 'did you mean digits'),
  ],
)
def test_a_run_config_that_makes_no_sense_is_one_line(told, message):
  with pytest.raises(ValueError, match=message):
    settings.read(told)


@pytest.mark.parametrize('node', [{}, {'partition-id': '0'}])
def test_a_node_must_say_which_client_it_is(node):
  with pytest.raises(ValueError, match='partition-id=0'):
    settings.client_id(node)


@pytest.mark.parametrize('classes', [None, '10', 1, 2.0])
def test_a_node_with_a_file_must_say_how_many_classes_there_are(classes):
  node = {'data': 'mine.npz', 'num-classes': classes}
  with pytest.raises(ValueError, match=r'number of classes.*num-classes=10'):
    settings.own_file(node)


def test_a_node_with_its_own_data_knows_no_other_number_of_examples(tmp_path):
  path = tmp_path / 'mine.npz'
  images = np.zeros((3, 8, 8, 1), np.uint8)
  np.savez(path, images=images, labels=np.arange(3))
  config = settings.read(f.told('--config.aggregation.weights=examples')).config
  with pytest.raises(ValueError, match=r"'examples' needs.*use 'equal'"):
    Client(config, 0, own=own_data(path, 10))


def test_flipped_bits_need_keys_that_the_server_has_not():
  flags = (
    '--config.wire.compressor=randomised_response'
    ' --config.wire.uplink=per_level --config.rounds=1'
  )
  config = settings.read(f.told(flags)).config
  with pytest.raises(ValueError, match=r'private_randomness must be true'):
    Client(config, 0)
  with pytest.raises(ValueError, match=r'private_randomness must be true'):
    f.Federated(config, grid=LocalGrid({}))
