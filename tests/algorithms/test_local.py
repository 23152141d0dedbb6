"""Local training against a plain Python loop, with gaps between the steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedpm_jax.algorithms import local
from fedpm_jax.prng import keys

OPTIMIZER = optax.adam(0.1)
# Three clients, five steps of two examples: the second ends an epoch early, the
# third, which only fills up the mesh, has nothing.
MASK = np.ones((3, 5, 2), np.bool_)
MASK[1, 1, 1] = MASK[1, 2] = MASK[1, 4] = MASK[2] = False


def gradient(variables, images, labels, mask, key):
  """Of no loss at all; everything that a step is given enters it."""
  x = jnp.where(mask, images[:, 0, 0, 0] + labels, 0).sum()
  noise = jax.random.normal(key, (2,))
  grads = {'a': variables['a'] * x + noise, 'b': variables['b'] - x}
  examples = jnp.sum(mask, dtype=jnp.int32)
  return grads, local.Sums(x.astype(jnp.float32), examples, examples)


def plain_loop(variables, data, indices, mask, step_keys):
  images, labels = data
  state, totals = OPTIMIZER.init(variables), np.zeros(3)
  for step in range(len(mask)):
    if not mask[step].any():
      continue
    at = indices[step]
    grads, sums = gradient(
      variables, images[at], labels[at], mask[step], step_keys[step]
    )
    updates, state = OPTIMIZER.update(grads, state, variables)
    variables = optax.apply_updates(variables, updates)
    totals += np.array([float(x) for x in sums])
  return variables, state, totals


def test_gaps_between_steps_are_skipped_alone_and_vectorised(rng):
  """A step is traced once, because all steps of a client are one loop."""
  images = rng.integers(0, 9, (20, 1, 1, 1)).astype(np.uint8)
  data = images, rng.integers(0, 3, 20).astype(np.int32)
  indices = rng.integers(0, 20, MASK.shape).astype(np.int32)
  words = keys.words(
    0, keys.Purpose.LOCAL, round_idx=np.arange(5), client=np.arange(3)[:, None]
  )
  start = {'a': jnp.arange(2.0), 'b': jnp.float32(3)}

  def train(indices, mask, words):
    batches = local.ClientBatches(*data, indices, mask)
    return local.train(
      chex.assert_max_traces(gradient, n=1),
      OPTIMIZER,
      start,
      OPTIMIZER.init(start),
      batches,
      keys.wrap(words),
    )

  members = indices, MASK, words
  ways = {
    'one after another': jax.jit(
      lambda *x: jax.lax.map(lambda y: train(*y), x)
    ),
    'vectorised': jax.jit(jax.vmap(train)),
  }
  for way in ways.values():
    chex.clear_trace_counter()
    got = way(*members)
    for client in range(3):
      mine = jax.tree.map(lambda x, i=client: x[i], got)
      want = plain_loop(
        start, data, indices[client], MASK[client], keys.wrap(words[client])
      )
      chex.assert_trees_all_close(mine[:2], want[:2], rtol=2e-5)
      np.testing.assert_allclose([float(x) for x in mine[2]], want[2])


@pytest.mark.parametrize('bad', [np.nan, np.inf, 1e11, -1e11, None])
def test_a_variable_that_has_diverged_shows_in_the_loss(bad):
  """Though every step's own loss is finite: a mask of NaN is a mask of zeros."""
  indices, valid = np.zeros((3, 2), np.int32), np.ones((3, 2), np.bool_)
  images, labels = np.zeros((1, 1, 1, 1), np.uint8), np.zeros(1, np.int32)
  start = {'a': jnp.arange(2.0), 'b': jnp.float32(3)}

  def gradient(variables, images, labels, valid, key):
    grads = jax.tree.map(jnp.ones_like, variables)
    if bad is not None:
      grads['a'] = grads['a'].at[1].set(bad)
    return grads, local.Sums(jnp.float32(1), jnp.int32(1), jnp.int32(2))

  batches = local.ClientBatches(images, labels, indices, valid)
  step_keys = keys.wrap(np.zeros((3, 4), np.uint32))
  optimizer = optax.sgd(0.1)
  _, _, sums = jax.jit(
    lambda: local.train(
      gradient, optimizer, start, optimizer.init(start), batches, step_keys
    )
  )()
  assert float(sums.loss) == 3 if bad is None else np.isnan(sums.loss)
  assert (int(sums.correct), int(sums.examples)) == (3, 6)
