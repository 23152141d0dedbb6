"""States in few bytes, the same to the bit."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from whole_runs import small

import fedpm_jax as fp
from fedpm_jax.experiments import packing

D = 3000


def _round_trip(state):
  state = jax.tree.map(np.asarray, state)
  written, tables = packing.pack(state)
  like = jax.tree.map(np.zeros_like, state)
  shapes = packing.expected(like, tables)
  assert jax.tree.structure(shapes) == jax.tree.structure(written)
  for found, told in zip(
    jax.tree.leaves(written), jax.tree.leaves(shapes), strict=True
  ):
    assert (found.shape, found.dtype) == (told.shape, told.dtype)
  back = packing.unpack(written, tables, like)
  assert jax.tree.structure(back) == jax.tree.structure(state)
  for one, other in zip(
    jax.tree.leaves(back), jax.tree.leaves(state), strict=True
  ):
    assert one.dtype == other.dtype
    assert one.tobytes() == other.tobytes()  # NaN and -0 as they were
  return written, tables


def _bytes(tree):
  return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@hypothesis.given(
  st.integers(0, 2**32 - 1),
  st.lists(
    st.tuples(
      st.sampled_from(['f4', 'u2', 'i4', 'u1', '?', 'f2', 'f8']),
      st.sampled_from([1, 2, 11, 255, 256, 257, 5000]),
      st.sampled_from([3, 1023, 1024, D]),
    ),
    max_size=5,
  ),
)
def test_any_state_comes_back_to_the_bit(seed, vectors):
  rng, state = np.random.default_rng(seed), {}
  for i, (kind, levels, size) in enumerate(vectors):
    dtype = np.dtype(kind)
    bits = rng.integers(0, 256, (levels, dtype.itemsize), np.uint8)
    values = bits.view(dtype)[:, 0] if kind != '?' else bits[:, 0] > 127
    state[f'v{i}'] = values[rng.integers(0, levels, size)]
  written, _ = _round_trip(state)
  # Not counting the tables, which may have 5,000 rows here.
  no_tables = _bytes(written['whole']) + _bytes(written['index'])
  assert no_tables <= _bytes(state)


def test_what_follows_from_the_counts_is_one_index(rng):
  counts = rng.integers(0, 11, D)
  state = {
    'alpha': (1 + counts).astype(np.float32),
    'beta': (11 - counts).astype(np.float32),
    'q': (counts * 6000 + 7).astype(np.uint16),
    'scores': rng.normal(size=D).astype(np.float32),
    'members': np.ones(10, np.bool_),
  }
  written, tables = _round_trip(state)
  assert tables == [{'names': ['alpha', 'beta', 'q'], 'rows': 11}]
  assert written['index']['0'].dtype == np.uint8
  assert set(written['whole']) == {'scores', 'members'}


def test_vectors_that_are_no_smaller_together_stay_apart(rng):
  state = {name: rng.integers(0, 201, D).astype(np.uint16) for name in 'ab'}
  written, tables = _round_trip(state)
  assert [table['rows'] for table in tables] == [201, 201]
  assert {leaf.dtype for leaf in written['index'].values()} == {
    np.dtype(np.uint8)
  }


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'fedpm.soft_counts': True},
    {'fedpm.prior_schedule': 'never'},
    {'wire.downlink': 'theta_levels'},
  ],
)
def test_what_the_server_of_fedpm_knows_is_a_byte_a_parameter(changes):
  run = fp.Experiment(small(rounds=2, model='cnn', **changes))
  list(run.rounds())
  written, _ = _round_trip(run.state._replace(clients=()))
  size = run.engine.method.network.layout.num_parameters
  assert _bytes(run.state.server) == 10 * size
  assert _bytes(written) < 1.02 * size


@pytest.mark.parametrize(
  ('tables', 'message'),
  [
    ([{'names': ['x', 'x'], 'rows': 2}], "'x', which is no array, or twice"),
    ([{'names': ['z'], 'rows': 2}], "'z', which is no array"),
    ([{'names': ['x', 'y'], 'rows': 2}], 'vectors of one length'),
    ([{'names': [], 'rows': 2}], 'vectors of one length'),
  ],
)
def test_tables_of_another_state_are_refused(tables, message):
  like = {'x': np.zeros(5), 'y': np.zeros(6)}
  with pytest.raises(ValueError, match=message):
    packing.expected(like, tables)
