"""Laws that every algorithm obeys: a new row of ALGORITHMS is tested here.

What a row computes is tested in a file of its own, whole methods (algorithm,
compressor, codecs) in tests/simulation.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import toy
from absl.testing import parameterized

from fedpm_jax import algorithms, codecs
from fedpm_jax.algorithms import local
from fedpm_jax.compressors import mrn
from fedpm_jax.experiments import options
from fedpm_jax.prng import keys

NETWORK = toy.network()
SIZE = NETWORK.layout.num_parameters
ROWS = [(name, name) for name in algorithms.ALGORITHMS]
EVERY_ROW = parameterized.named_parameters(*ROWS)
UPDATES = {'theta': np.uint16, 'mask': np.bool_, 'delta': np.float32}
# A sum of masks is a vector of counts.
TOTALS = {'mask': np.int32, 'delta': np.float32}
CLIENTS, STEPS, BATCH = 4, 3, 2
KEY = keys.derive(0, keys.Purpose.SCORES)


def vector(dtype):
  return jax.ShapeDtypeStruct((SIZE,), dtype)


@functools.lru_cache
def made(name):
  row, given = algorithms.ALGORITHMS[name], {}
  if options.takes(row, 'compressor'):
    given['compressor'] = mrn.mrn(NETWORK.layout)
  return row(NETWORK, optax.adam(0.1), **given)


@functools.lru_cache
def first_state(name):
  return jax.device_get(made(name).init(KEY)[0])


def total(algorithm, round_idx):
  """The sum of what K clients sent, `[d]`."""
  rng = np.random.default_rng(round_idx)
  if algorithm.aggregated == 'mask':
    return rng.integers(0, CLIENTS + 1, SIZE).astype(np.int32)
  return rng.standard_normal(SIZE).astype(np.float32)


class ContractTest(chex.TestCase):
  """What `algorithms.base` promises of each function."""

  def setUp(self):
    super().setUp()
    chex.clear_trace_counter()

  @EVERY_ROW
  def test_arrays_are_of_the_declared_sorts(self, name):
    """Only shapes and types are traced, because that takes no time."""
    algorithm = made(name)
    same = chex.assert_trees_all_equal_shapes_and_dtypes
    state, client_state = jax.eval_shape(algorithm.init, KEY)
    payload = jax.eval_shape(algorithm.broadcast, state)
    same(payload, vector(codecs.base.DTYPES[algorithm.payload]))
    batches = local.ClientBatches(
      jnp.zeros((9, toy.SIZE, toy.SIZE, 1), jnp.uint8),
      jnp.zeros(9, jnp.int32),
      jnp.zeros((STEPS, BATCH), jnp.int32),
      jnp.ones((STEPS, BATCH), bool),
    )
    received = jax.eval_shape(algorithm.receive, payload)
    step_keys = keys.derive(0, keys.Purpose.LOCAL, client=np.arange(STEPS))
    update, client_after, _ = jax.eval_shape(
      algorithm.client_update,
      received,
      batches,
      client_state,
      step_keys,
      KEY,
    )
    same(update, vector(UPDATES[algorithm.update]))
    same(client_after, client_state)
    after, _ = jax.eval_shape(
      algorithm.server_update,
      state,
      vector(TOTALS[algorithm.aggregated]),
      CLIENTS,
      0,
    )
    same(after, state)
    networks = jax.eval_shape(algorithm.eval_params, state, KEY)
    dense = set(networks) == {'mean'}
    assert dense or set(networks) == {'sampled', 'mean', 'threshold'}
    same(networks, {kind: vector(np.float32) for kind in networks})
    model = jax.eval_shape(algorithm.model, state, KEY)
    same(model, vector(np.float32 if dense else np.bool_))

  @chex.variants(with_jit=True, without_jit=True)
  @EVERY_ROW
  def test_all_rounds_of_the_server_are_one_program(self, name):
    """It is compiled once, and computes what it computes uncompiled.

    The number of the round is data, and a state comes back as it went in:
    otherwise each round of a run would be compiled anew.
    """
    algorithm = made(name)

    @functools.partial(self.variant, static_argnums=2)
    @chex.assert_max_traces(n=1)
    def one_round(state, total, count, round_idx):
      return algorithm.server_update(state, total, count, round_idx)

    state = want = first_state(name)
    for t in range(3):
      sent = total(algorithm, t)
      state, info = one_round(state, sent, CLIENTS, t)
      want, want_info = algorithm.server_update(want, sent, CLIENTS, t)
      chex.assert_tree_all_finite((state, info))
      close = functools.partial(chex.assert_trees_all_close, rtol=1e-5)
      close(info, want_info)
      if algorithm.payload == 'theta':
        payload = algorithm.broadcast(want)
        chex.assert_trees_all_equal(algorithm.broadcast(state), payload)
      close(state, want, atol=1e-6)

  @EVERY_ROW
  def test_a_client_can_foresee_where_the_row_says_so(self, name):
    """There a round needs nothing of the state but what was broadcast."""
    algorithm = made(name)
    state = first_state(name)
    other, _ = algorithm.server_update(state, total(algorithm, 7), CLIENTS, 1)
    leaves, tree = jax.tree.flatten(state)
    payload = algorithm.broadcast(state)
    for i, leaf in enumerate(jax.tree.leaves(other)):
      hidden = jax.tree.unflatten(tree, [*leaves[:i], leaf, *leaves[i + 1 :]])
      if not np.array_equal(algorithm.broadcast(hidden), payload):
        continue
      assert not np.array_equal(leaf, leaves[i])
      for t in range(3):
        if algorithm.depends_only_on_round(t):
          chex.assert_trees_all_equal(
            algorithm.server_update(hidden, total(algorithm, t), CLIENTS, t),
            algorithm.server_update(state, total(algorithm, t), CLIENTS, t),
          )
