"""Local training of ONE client: optax over a scan of minibatches.

Knows no algorithm: what is trained is a flat vector `[d]`, and the caller says
how its gradient is made.  Rounds run many clients side by side.

Dimensions: N examples of the whole training set, S local steps, B batch, d.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax


class ClientBatches(NamedTuple):
  """What one client sees in a round.

  Attributes:
    images: uint8 `[N, H, W, C]`, the whole training set, shared by all clients.
    labels: int32 `[N]`.
    indices: int32 `[S, B]`, the client's examples in the order it visits them.
    mask: bool `[S, B]`, False on padding.
  """

  images: jax.Array
  labels: jax.Array
  indices: jax.Array
  mask: jax.Array


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


def sums(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Sums:
  """Loss and accuracy of logits `[B, classes]`, padding left out."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  hits = jnp.argmax(logits, axis=-1) == labels
  return Sums(
    loss=jnp.sum(jnp.where(mask, losses, 0.0)),
    correct=jnp.sum(hits & mask, dtype=jnp.int32),
    examples=jnp.sum(mask, dtype=jnp.int32),
  )


def mean_loss(
  apply: Callable[[Any, jax.Array], jax.Array],
  params: Any,
  images: jax.Array,
  labels: jax.Array,
  mask: jax.Array,
) -> tuple[jax.Array, Sums]:
  """Mean cross-entropy of a padded batch, and its sums: for `value_and_grad`."""
  total = sums(apply(params, images), labels, mask)
  return total.loss / jnp.maximum(total.examples, 1), total


# (variables [d], images [B, ...], labels [B], mask [B], key)
#   -> (gradient [d], Sums)
Gradient = Callable[..., tuple[jax.Array, Sums]]


def train(
  gradient: Gradient,
  optimizer: optax.GradientTransformation,
  variables: jax.Array,
  optimizer_state: optax.OptState,
  batches: ClientBatches,
  step_keys: jax.Array,
) -> tuple[jax.Array, optax.OptState, Sums]:
  """Runs a client's S local steps.

  A step without an example, the padding of a small client, changes nothing:
  neither the variables nor the optimiser's moments and step count.

  Args:
    gradient: see `Gradient`.
    optimizer: any optax optimiser.
    variables: `[d]`, where training starts.
    optimizer_state: of the optimiser, fresh or the client's own of last time.
    batches: the client's.
    step_keys: typed keys `[S]`; step s draws from step_keys[s].

  Returns:
    The trained variables `[d]`, the optimiser's state, and the sums over all
    steps.
  """

  def real_step(carry, key, indices, mask):
    variables, optimizer_state, so_far = carry
    grads, total = gradient(
      variables,
      batches.images[indices],
      batches.labels[indices],
      mask,
      key,
    )
    updates, optimizer_state = optimizer.update(
      grads, optimizer_state, variables
    )
    variables = optax.apply_updates(variables, updates)
    return variables, optimizer_state, jax.tree.map(jnp.add, so_far, total)

  def body(carry, inputs):
    key, indices, mask = inputs
    # Under vmap this becomes a select; client by client the work is skipped.
    carry = lax.cond(
      jnp.any(mask),
      real_step,
      lambda carry, *_: carry,
      carry,
      key,
      indices,
      mask,
    )
    return carry, None

  zero = Sums(jnp.float32(0), jnp.int32(0), jnp.int32(0))
  carry, _ = lax.scan(
    body,
    (variables, optimizer_state, zero),
    (step_keys, batches.indices, batches.mask),
  )
  return carry
