"""Examples that stay with the host: the same training, to the bit."""

import jax
import numpy as np
import pytest
import small_runs
import toy
from hypothesis import given
from hypothesis import strategies as st

import fedpm_jax as fp
from fedpm_jax.protocol.client import Work
from fedpm_jax.simulation import examples, placement

# Of the largest client, by steps and batch of `toy.cohort`.
MOST = 40


def two_rounds(ids, **options):
  engine, rng = toy.engine(**options), np.random.default_rng(7)
  state, rows = engine.init(), []
  for t in range(2):
    state, row, *_ = engine.run(state, toy.cohort(rng, ids), t)
    rows.append({k: v for k, v in row.items() if not k.startswith('time/')})
  return state, rows


@pytest.mark.parametrize('ids', [[0, 1, 2, 3], [0, 1, 3]])
@pytest.mark.parametrize(
  'options',
  [{}, {'turn': 1}, {'persistent_optimizer': True}, {'chunk': 2}],
  ids=['plain', 'turn', 'persistent', 'chunk'],
)
def test_brought_examples_change_nothing(ids, options):
  options = options | {'clients_per_round': len(ids)}
  there, rows = two_rounds(ids, **options)
  brought, own_rows = two_rounds(ids, most_brought=MOST, **options)
  jax.tree.map(np.testing.assert_array_equal, there, brought)
  assert rows == own_rows
  engine = toy.engine(most_brought=MOST, **options)
  assert engine.trainer.clients_step._cache_size() == 1


@given(st.data())
def test_each_step_finds_its_examples_among_its_own(data):
  clients, steps, batch, total = 3, 4, 5, 30
  rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
  shape = (clients, steps, batch)
  indices = rng.integers(0, total, shape).astype(np.int32)
  valid = rng.random(shape) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
  work = Work(indices, valid, np.zeros(0), np.zeros(0))
  inputs, labels = rng.normal(size=(total, 2, 3)), np.arange(total)
  found, (own_inputs, own_labels) = examples.brought(
    work, inputs, labels, most=steps * batch
  )
  assert own_inputs.shape == (clients, steps * batch + 1, 2, 3)
  assert found.indices.dtype == np.int32
  # Padding finds what it finds where devices hold the whole set.
  padding = own_labels[np.nonzero(~valid)[0], found.indices[~valid]]
  assert not padding.any()
  for k in range(clients):
    for at in zip(*np.nonzero(valid[k]), strict=True):
      place = found.indices[k][at]
      assert own_labels[k, place] == labels[indices[k][at]]
      np.testing.assert_array_equal(
        own_inputs[k, place], inputs[indices[k][at]]
      )


class Counted:
  """An array that knows which of its rows were read."""

  def __init__(self, array):
    self.array, self.read = array, set()

  def __getitem__(self, rows):
    self.read |= set(np.ravel(rows).tolist())
    return self.array[rows]


def test_rows_of_nobody_are_not_read():
  inputs = Counted(np.zeros((1000, 2), np.float32))
  indices = np.array([[[7, 9], [900, 500]]], np.int32)
  valid = np.array([[[True, True], [True, False]]])
  work = Work(indices, valid, np.zeros(0), np.zeros(0))
  examples.brought(work, inputs, np.zeros(1000, np.int32), most=4)
  assert inputs.read == {0, 7, 9, 900}  # 0 fills up.


@pytest.mark.parametrize(
  ('way', 'memory', 'devices', 'backend', 'most'),
  [
    ('all', 1, 1, 'gpu', 0),
    ('cohort', 1e9, 1, 'gpu', 5),
    ('auto', 3200, 8, 'gpu', 0),
    ('auto', 3199, 1, 'gpu', 5),
    # Those of a CPU share its memory.
    ('auto', 6400, 2, 'cpu', 0),
    ('auto', 6399, 2, 'cpu', 5),
    ('auto', float('inf'), 2, 'cpu', 0),
    # Two chunks of 10 clients would bring as much as there is.
    ('auto', 1, 1, 'gpu x 9', 5),
    ('auto', 1, 1, 'gpu x 10', 0),
    ('cohort', 1, 1, 'gpu x 10', 5),
  ],
)
def test_a_large_set_stays_with_the_host(
  monkeypatch, way, memory, devices, backend, most
):
  monkeypatch.setattr(examples.machine, 'memory_limit', lambda: memory)
  backend, _, chunk = backend.partition(' x ')
  monkeypatch.setattr(examples.jax, 'default_backend', lambda: backend)
  inputs = np.zeros((100, 8), np.uint8)
  clients = [np.arange(5), np.arange(3)]
  found = examples.most_brought(way, inputs, clients, devices, int(chunk or 1))
  assert found == most


def test_a_run_from_a_mapped_file_is_the_same_run(tmp_path):
  images, labels = toy.data(np.random.default_rng(0), 90)
  np.save(tmp_path / 'x.npy', images)
  mapped = np.load(tmp_path / 'x.npy', mmap_mode='r')
  rows = {}
  for way, inputs in (('all', images), ('cohort', mapped)):
    data = fp.Dataset('own', inputs, labels, images[:30], labels[:30], 3)
    config = small_runs.small(
      **{'model': 'lenet', 'data.sizes': 'unequal', 'execution.examples': way}
    )
    run = fp.Experiment(config, dataset=data)
    assert run.engine.trainer.brings_examples == (way == 'cohort')
    assert np.shares_memory(run.dataset.x_train, inputs)
    rows[way] = [
      {k: v for k, v in row.items() if not k.startswith('time/')}
      for row in run.rounds()
    ]
  assert rows['all'] == rows['cohort']


def test_a_turn_is_short_where_clients_bring_much(monkeypatch):
  monkeypatch.setattr(placement, '_TURN_BYTES', 4 * 16 * MOST)
  assert (
    toy.engine_of(toy.method(toy.network()), most_brought=MOST).trainer._turn
    == 2
  )
