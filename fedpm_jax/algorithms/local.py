"""Local training of ONE client: optax over a loop of minibatches.

Knows no algorithm: what is trained is any tree of arrays, and the caller says
how its gradient is made.  Rounds run many clients side by side.

Dimensions: N examples of the whole training set, S local steps, B batch, d.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax

from fedpm_jax.compressors.base import MAX_CHANGE

_Tree = TypeVar('_Tree')

# What trained variables lie within, unless training has diverged.  A compressor
# may scale a change up by some thousands, and what it sends is still accepted.
LIMIT = 1e-5 * MAX_CHANGE


class ClientBatches(NamedTuple):
  """What one client sees in a round.

  Attributes:
    inputs: `[N, ...]`, what its indices point into: the whole training set,
      shared by all clients, or its own examples.
    labels: int32 `[N]`.
    indices: int32 `[S, B]`, the client's examples in the order it visits them.
    valid: bool `[S, B]`, False on padding.
    step_factor: float32, the factor of this round on the optimiser's steps;
      None where it is always 1.
  """

  inputs: jax.Array
  labels: jax.Array
  indices: jax.Array
  valid: jax.Array
  step_factor: jax.Array | None = None


class Sums(NamedTuple):
  """Sums over examples, so that padded batches add up exactly.

  Attributes:
    loss: float32, summed cross-entropy in nats.
    correct: int32, examples whose highest logit is their label's.
    examples: int32.
  """

  loss: jax.Array
  correct: jax.Array
  examples: jax.Array


def sums(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> Sums:
  """Loss and accuracy of logits `[B, classes]`, padding left out."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  hits = jnp.argmax(logits, axis=-1) == labels
  return Sums(
    loss=jnp.sum(jnp.where(valid, losses, 0.0)),
    correct=jnp.sum(hits & valid, dtype=jnp.int32),
    examples=jnp.sum(valid, dtype=jnp.int32),
  )


def mean_loss(
  apply: Callable[[Any, jax.Array], jax.Array],
  params: chex.ArrayTree,
  inputs: jax.Array,
  labels: jax.Array,
  valid: jax.Array,
) -> tuple[jax.Array, Sums]:
  """Mean cross-entropy of a padded batch, and its sums, for `jax.grad`."""
  total = sums(apply(params, inputs), labels, valid)
  return total.loss / jnp.maximum(total.examples, 1), total


# (variables, inputs [B, ...], labels [B], valid [B], what its step has: a key)
#   -> (gradient, a tree like the variables; Sums)
Gradient = Callable[..., tuple[jax.Array, Sums]]


def train(
  gradient: Gradient,
  optimizer: optax.GradientTransformation,
  variables: _Tree,
  optimizer_state: optax.OptState,
  batches: ClientBatches,
  each_step: chex.ArrayTree,
) -> tuple[_Tree, optax.OptState, Sums]:
  """Runs a client's S local steps.

  A step without an example, the padding of a small client, changes nothing:
  neither the variables nor the optimiser's moments and step count.

  Args:
    gradient: see `Gradient`.
    optimizer: any optax optimiser.
    variables: where training starts; scores `[d]`, or a tree of weights.
    optimizer_state: of the optimiser, fresh or the client's own of last time.
    batches: the client's.
    each_step: what each step has for itself, arrays `[S, ...]`, as a rule the
      typed keys `[S]` that the steps draw from.

  Returns:
    The trained variables, the optimiser's state, and the sums over all steps.
    The loss is NaN where training has diverged, so that a trained variable is
    not finite or beyond LIMIT.  Quantised to a theta, or cut to a mask, it
    would look like any other, and the next loss too.
  """
  batches = jax.tree.map(jnp.asarray, batches)
  real = jnp.any(batches.valid, axis=1)
  (real_steps,) = jnp.nonzero(real, size=len(real), fill_value=0)

  def step(i, carry):
    variables, optimizer_state, so_far = carry
    at = real_steps[i]
    grads, total = gradient(
      variables,
      batches.inputs[batches.indices[at]],
      batches.labels[batches.indices[at]],
      batches.valid[at],
      jax.tree.map(lambda rows: rows[at], each_step),
    )
    updates, optimizer_state = optimizer.update(
      grads, optimizer_state, variables
    )
    if batches.step_factor is not None:
      updates = jax.tree.map(lambda step: batches.step_factor * step, updates)
    variables: Any = optax.apply_updates(variables, updates)
    return variables, optimizer_state, jax.tree.map(jnp.add, so_far, total)

  zero = Sums(jnp.float32(0), jnp.int32(0), jnp.int32(0))
  # Padding is never entered, which costs less than a condition in every step;
  # under vmap all wait for the client with the most steps.
  trained, optimizer_state, total = lax.fori_loop(
    0,
    jnp.sum(real, dtype=jnp.int32),
    step,
    (variables, optimizer_state, zero),
  )
  loss = jnp.where(_within_limit(trained), total.loss, jnp.nan)
  return trained, optimizer_state, total._replace(loss=loss)


def _within_limit(tree: chex.ArrayTree) -> jax.Array:
  """Whether all numbers of a tree lie within +-LIMIT, bool; NaN does not."""
  leaves = [jnp.all(jnp.abs(leaf) <= LIMIT) for leaf in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))
