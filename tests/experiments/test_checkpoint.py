"""Checkpoints: bit-exact, complete, and only for the run they belong to."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from fedpm_jax.experiments import checkpoint
from fedpm_jax.protocol.server import Held
from fedpm_jax.simulation import rounds

CONFIG = {'seed': 0, 'data': {'name': 'digits'}}


def _state(value):
  scores = jnp.full(5, value, jnp.float32)
  server = {'q': jnp.full(5, 7, jnp.uint16), 'scores': scores}
  known = Held(server['q'], jnp.ones(3, jnp.bool_))
  return rounds.State(server, optax.adam(0.1).init(scores), known)


def _open(tmp_path, keep=2):
  return checkpoint.Checkpoints(tmp_path / 'checkpoints', keep=keep)


def test_round_trip_keeps_structure_and_bits(tmp_path):
  state = _state(1 / 3)
  checkpoints = _open(tmp_path)
  assert checkpoints.restore(state, CONFIG) is None
  checkpoints.save(state, 4, CONFIG)
  checkpoints.close()
  checkpoints = _open(tmp_path)
  restored = checkpoints.restore(_state(0.0), CONFIG)
  checkpoints.close()
  assert restored.next_round == 4
  assert jax.tree.structure(restored.state) == jax.tree.structure(state)
  chex.assert_trees_all_equal(restored.state, state)
  assert restored.state.server['q'].dtype == jnp.uint16


def test_latest_of_several_wins_and_old_ones_go(tmp_path):
  checkpoints = _open(tmp_path)
  for next_round in (1, 2, 3):
    checkpoints.save(_state(float(next_round)), next_round, CONFIG)
  restored = checkpoints.restore(_state(0.0), CONFIG)
  checkpoints.close()
  assert restored.next_round == 3
  assert restored.state.server['scores'][0] == 3
  kept = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
  assert kept == {'2', '3'}


def test_unfinished_checkpoint_is_not_restored(tmp_path):
  checkpoints = _open(tmp_path)
  checkpoints.save(_state(1.0), 1, CONFIG)
  checkpoints.close()
  torn = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
  torn.mkdir()
  (torn / 'half').write_bytes(b'written')
  checkpoints = _open(tmp_path)
  assert checkpoints.restore(_state(0.0), CONFIG).next_round == 1
  checkpoints.close()


def test_another_config_is_an_error_that_names_the_difference(tmp_path):
  checkpoints = _open(tmp_path)
  checkpoints.save(_state(1.0), 1, CONFIG)
  other = {'seed': 1, 'data': {'name': 'mnist'}}
  with pytest.raises(ValueError, match='another config') as error:
    checkpoints.restore(_state(0.0), other)
  checkpoints.close()
  assert "data.name: 'digits' there, 'mnist' here" in str(error.value)
  assert 'seed: 0 there, 1 here' in str(error.value)


def test_another_dtype_is_an_error_and_not_a_cast(tmp_path):
  checkpoints = _open(tmp_path)
  checkpoints.save(_state(1.0), 1, CONFIG)
  other = _state(0.0)
  other.server['q'] = jnp.zeros(5, jnp.uint32)
  with pytest.raises(
    ValueError, match=r"q: 'uint16\[5\]' there, 'uint32\[5\]' here"
  ):
    checkpoints.restore(other, CONFIG)
  checkpoints.close()


@pytest.mark.parametrize(
  ('every', 'expected'),
  [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (5, [4]), (0, [4]), (9, [4])],
)
def test_is_due(every, expected):
  due = [t for t in range(5) if checkpoint.is_due(t, every=every, last=4)]
  assert due == expected


def test_differences_of_nested_configs():
  found = checkpoint.differences(
    {'a': 1, 'b': {'c': 2, 'd': 3}}, {'a': 1, 'b': {'c': 4}, 'e': 5}
  )
  assert found == [
    'b.c: 2 there, 4 here',
    "b.d: 3 there, '(absent)' here",
    "e: '(absent)' there, 5 here",
  ]
