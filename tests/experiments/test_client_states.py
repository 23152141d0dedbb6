"""States of clients that cannot fit into memory are refused with the number."""

import jax
import numpy as np
import pytest
from small_runs import small

import fedpm_jax as fp
from fedpm_jax.experiments import client_states


def test_states_of_all_clients_are_counted(monkeypatch):
  config = small(**{'fedpm.persistent_optimizer': True})
  run = fp.Experiment(config)
  state = run.state.clients
  # All of them, and the copy that a checkpoint writes.
  num_bytes = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  monkeypatch.setattr(client_states.machine, 'memory_limit', lambda: num_bytes)
  client_states.check(config, run.engine.method)
  monkeypatch.setattr(
    client_states.machine, 'memory_limit', lambda: num_bytes - 1
  )
  with pytest.raises(
    ValueError, match=r'num_clients = 3 clients keeps 1\.2 MB'
  ):
    client_states.check(config, run.engine.method)


def test_a_population_with_states_is_refused_before_a_round(monkeypatch):
  monkeypatch.setattr(client_states.machine, 'memory_limit', lambda: 10**8)
  clients = [np.arange(8)] * 100
  fp.Experiment(small(num_clients=100), clients=clients)
  config = small(num_clients=100, **{'fedpm.persistent_optimizer': True})
  with pytest.raises(
    ValueError,
    match=r'100 clients .* 1\.2 MB .*: use .*persistent_optimizer=False',
  ):
    fp.Experiment(config, clients=clients)


def test_a_round_replaces_states_in_place():
  """A second copy of the states of a large population would not fit."""
  config = small(
    num_clients=4, clients_per_round=2, **{'fedpm.persistent_optimizer': True}
  )
  run = fp.Experiment(config)
  before = jax.tree.leaves(run.state.clients)
  kept = [np.array(leaf) for leaf in before]
  asked = run.cohort_ids(0)
  run.run_round()
  assert all(leaf.is_deleted() for leaf in before)
  for old, new in zip(kept, jax.tree.leaves(run.state.clients), strict=True):
    changed = [not np.array_equal(a, b) for a, b in zip(old, new, strict=True)]
    np.testing.assert_array_equal(np.flatnonzero(changed), np.sort(asked))
