"""How often a run is evaluated, where nobody says."""

import types

import numpy as np
import pytest
from toy import methods_table
from whole_runs import small

import fedpm_jax as fp
from fedpm_jax.experiments import build, config_files, disk, evaluation, run
from fedpm_jax.experiments import config as configs
from fedpm_jax.masks import Layout
from fedpm_jax.models.network import Network

# Test images, and training images of each of the clients, as the data set has.
SETS = {
  'digits': (360, 1437, 10),
  'mnist': (10_000, 60_000, 200),
  'emnist': (18_800, 112_800, 10),
  'cifar10': (10_000, 50_000, 10),
  'cifar10_partial': (10_000, 50_000, 50),
  'cifar100': (10_000, 50_000, 10),
}


def _every(config, test_examples, examples):
  layout = Layout(('dense/kernel',), ((1, 1),), (1,))
  network = Network(layout, lambda *_: 0, lambda: np.zeros(1), {})
  return evaluation.every(
    config,
    build.method(config, network).algorithm,
    test_examples=test_examples,
    client_examples=[np.zeros(examples)] * config.num_clients,
  )


@pytest.mark.parametrize(
  ('name', 'changes', 'every'),
  [
    ('digits', {}, 1),
    ('digits', {'evaluation.masks': 10}, 2),
    ('digits', {'evaluation.masks': 100}, 11),
    ('mnist', {}, 1),
    (
      'mnist',
      {'num_clients': 10, 'clients_per_round': 10, 'examples': 100},
      11,
    ),
    ('emnist', {}, 1),
    ('cifar10', {}, 1),
    ('cifar10_partial', {}, 3),
    ('cifar100', {}, 1),
    ('cifar10', {'evaluation.every': 7}, 7),
  ],
)
def test_an_evaluation_is_a_fifth_of_the_passes_at_most(name, changes, every):
  changes = dict(changes)
  test_examples, train_images, clients = SETS[name]
  examples = changes.pop('examples', -(-train_images // clients))
  config = config_files.read(name).config
  config.update_from_flattened_dict(changes)
  assert _every(config, test_examples, examples) == every
  if config.evaluation.every:
    return
  networks = 3 + config.evaluation.masks - 1
  batches = -(-examples // config.batch_size)
  trained = batches * config.batch_size * config.local_epochs
  share = lambda n: (
    networks
    * test_examples
    / (networks * test_examples + n * 3 * trained * config.clients_per_round)
  )
  assert share(every) <= 1 / 5
  assert every == 1 or share(every - 1) > 1 / 5


def test_a_dense_method_has_one_network():
  for name, networks in (('fedavg', 1), ('fedpm', 3)):
    config = configs.default()
    config.update_from_flattened_dict(methods_table()[name])
    assert _every(config, 36_000, 143) == 10 * networks


def test_the_rounds_follow_from_the_configuration_and_the_data():
  changes = {'evaluation.every': 0, 'evaluation.masks': 3, 'rounds': 5}
  experiment = fp.Experiment(small(**changes))
  every = experiment.evaluate_every
  # 5 networks, 360 images; 2 clients, 2 batches of 16, 3 passes each.
  assert every == -(-4 * 5 * 360 // (2 * 2 * 16 * 3)) == 38
  assert ['eval/accuracy_mean' in row for row in experiment.rounds()] == [
    *[False] * 4,
    True,
  ]


@pytest.mark.parametrize(
  ('rounds', 'every', 'said'),
  [
    (9, 1, 'each round'),
    (9, 4, 'each 4 rounds and the last'),
    (9, 9, 'the last round only'),
    (1, 1, 'each round'),
  ],
)
def test_what_was_chosen_is_said(rounds, every, said):
  plans = lambda config: [
    line
    for line in run._plans(
      types.SimpleNamespace(
        config=config,
        evaluate_every=every,
        num_rounds=rounds,
        first_state=lambda: np.zeros(9),
      ),
      disk.Kept((), 0, 0),
    )
    if line.startswith('The test set')
  ]
  assert plans(small()) == []
  (line,) = plans(small(**{'evaluation.every': 0}))
  assert line.startswith(f'The test set is evaluated after {said}, which takes')
