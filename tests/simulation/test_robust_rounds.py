"""Whose mask is too far from theta counts for nothing, to the bit."""

import logging

import chex
import jax
import numpy as np
import pytest
import toy

BOUND = 0.1


def poisoned(engine, attackers, monkeypatch):
  """From now on these clients of the engine send masks of ones."""
  carry = engine.link.uplink

  def uplink(pool, arriving, payload, ids, *more):
    ones = np.packbits(np.ones(payload.size, np.bool_))
    sent = (
      ones if client in attackers else symbols
      for client, symbols in zip(ids.tolist(), arriving, strict=False)
    )
    return carry(pool, sent, payload, ids, *more)

  monkeypatch.setattr(engine.link, 'uplink', uplink)


def run(engine, cohorts, *, hand_on=True):
  """States and metrics of rounds, one after another."""
  state, foreseen, found = engine.init(), None, []
  for t, cohort in enumerate(cohorts):
    done = engine.run(state, cohort, t, foreseen=foreseen)
    state, foreseen = done.state, done.foreseen if hand_on else None
    metrics = {k: v for k, v in done.metrics.items() if k[:5] != 'time/'}
    found.append((jax.device_get(state), metrics))
  return found


def without(cohort, client):
  kept = cohort.ids != client
  return type(cohort)(*(part[kept] for part in cohort))


@pytest.mark.parametrize('uplink', ['dither', 'prior'])
def test_a_left_out_client_counts_for_nothing(uplink, rng, monkeypatch, caplog):
  method = toy.method(toy.network(), uplink=uplink)
  cohorts = [toy.cohort(rng, ids) for ids in ([0, 1, 2, 3], [0, 1, 2, 3])]
  bounded = toy.engine_of(method, max_distance=BOUND)
  poisoned(bounded, {2}, monkeypatch)
  with caplog.at_level(logging.WARNING, 'absl'):
    attacked = run(bounded, cohorts)
  plain = run(toy.engine_of(method), [without(c, 2) for c in cohorts])
  for (state, metrics), (expected, _) in zip(attacked, plain, strict=True):
    chex.assert_trees_all_equal(state, expected)
    assert state.held.members.tolist() == [True, True, False, True]
    assert metrics['robust/left_out'] == 1
  lines = [r.message for r in caplog.records if 'robust' in r.message]
  assert len(lines) == 2
  assert lines[1].startswith('Round 2: ')
  assert 'clients 2 (' in lines[1]
  # What the first round's guesses lead to is of the members alone.
  again = run(bounded, cohorts, hand_on=False)
  chex.assert_trees_all_equal(again, attacked)


def test_without_the_bound_it_would_have_counted(rng, monkeypatch):
  engine = toy.engine_of(toy.method(toy.network()))
  cohort = toy.cohort(rng, [0, 1, 2, 3])
  ((honest, metrics),) = run(engine, [cohort])
  assert 'robust/left_out' not in metrics
  poisoned(engine, {2}, monkeypatch)
  ((attacked, _),) = run(engine, [cohort])
  assert attacked.server.q.mean() > honest.server.q.mean() + 2000


def test_a_bound_that_leaves_nobody_out_changes_nothing(rng):
  method = toy.method(toy.network())
  cohorts = [toy.cohort(rng, [0, 1, 2, 3]), toy.cohort(rng, [0, 1, 3])]
  bounded = run(toy.engine_of(method, max_distance=BOUND), cohorts)
  plain = run(toy.engine_of(method), cohorts)
  for (state, metrics), (expected, expected_metrics) in zip(
    bounded, plain, strict=True
  ):
    chex.assert_trees_all_equal(state, expected)
    assert metrics == expected_metrics | {'robust/left_out': 0}


def test_a_round_without_a_member_changes_nothing(rng, monkeypatch):
  method = toy.method(toy.network())
  engine = toy.engine_of(method, max_distance=BOUND)
  cohorts = [toy.cohort(rng, [0, 1, 2, 3])] * 2
  before = jax.device_get(engine.init())
  with monkeypatch.context() as attack:
    poisoned(engine, {0, 1, 2, 3}, attack)
    (state, first), (later, second) = run(engine, cohorts)
  for found in (state, later):
    chex.assert_trees_all_equal(found.server, before.server)
    assert not found.held.members.any()
  assert first['robust/left_out'] == 4
  assert 'server/theta_mean' not in first
  # Nobody holds a theta now, so all are sent the whole one; and it goes on.
  whole = engine.server.broadcast(before.server.q, None, round_idx=1)
  assert second['downlink/bytes'] == 4 * len(whole)
  done = engine.run(jax.device_put(later), cohorts[0], 2)
  assert done.metrics['robust/left_out'] == 0
  assert (np.asarray(done.state.server.q) != before.server.q).any()
