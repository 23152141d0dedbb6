"""Turns: however a cohort is cut, it is the same cohort."""

import jax
import numpy as np
import pytest
import toy

from fedpm_jax.simulation import cohort as turns
from fedpm_jax.simulation import placement, rounds


def run(turn, cohorts, **options):
  engine = toy.engine(turn=turn, **options)
  state, rows = engine.init(), []
  for t, cohort in enumerate(cohorts):
    state, row, *_ = engine.run(state, cohort, t)
    rows.append({k: v for k, v in row.items() if not k.startswith('time/')})
  return state, rows


@pytest.mark.parametrize('persistent', [False, True])
@pytest.mark.parametrize('ids', [[0, 1, 2, 3], [0, 1, 3]])
def test_turns_change_nothing(ids, persistent):
  """One client at a time on each device, or all: theta, states and metrics."""
  rng = np.random.default_rng(5)
  cohorts = [toy.cohort(rng, ids) for _ in range(2)]
  options = {
    'clients_per_round': len(ids),
    'persistent_optimizer': persistent,
  }
  whole, rows = run(4, cohorts, **options)
  short, short_rows = run(1, cohorts, **options)
  jax.tree.map(np.testing.assert_array_equal, whole, short)
  assert rows == short_rows


def trainer(turn, *, devices=1, chunk=1):
  engine = toy.engine()
  return turns.Trainer(
    engine.method,
    seed=0,
    inputs=engine.data[0],
    labels=engine.data[1],
    mesh=placement.make_mesh(4, max_devices=devices),
    chunk=chunk,
    turn=turn,
  )


@pytest.mark.parametrize(
  ('turn', 'devices', 'sizes'),
  [(1, 1, [1] * 4), (1, 2, [2] * 2), (3, 1, [2] * 2), (4, 1, [4])],
)
def test_turns_are_of_one_size_and_one_is_under_way(
  rng, monkeypatch, turn, devices, sizes
):
  those = trainer(turn, devices=devices)
  started, step = [], those.clients_step
  monkeypatch.setattr(
    those,
    'clients_step',
    lambda *args: started.append(1) or step(*args),
  )
  cohort = toy.cohort(rng, [0, 1, 2, 3])
  members = those.work(cohort, 0)
  payload = toy.engine().init().server.q
  seen = []
  for each in those.turns(payload, members, (), cohort.ids):
    seen.append(len(each.symbols))
    assert len(started) == min(len(seen) + 1, len(sizes))
  assert seen == sizes


def test_the_client_that_fails_is_named_and_later_ones_do_not_train(rng):
  """Client 2's images are of a class that there is not: its loss is nan."""
  engine = toy.engine()
  engine = rounds.Engine(
    engine.method,
    seed=0,
    num_clients=4,
    inputs=np.asarray(engine.data[0]),
    labels=np.where(np.arange(60) < 59, np.asarray(engine.data[1]), 99),
    mesh=placement.make_mesh(4, max_devices=1),
    turn=1,
  )
  cohort = toy.cohort(rng, [0, 1, 2, 3], examples=59)
  cohort.indices[2] = 59
  with pytest.raises(
    FloatingPointError, match=r'Round 4.* clients \[2\] diverged'
  ):
    engine.run(engine.init(), cohort, 3)
