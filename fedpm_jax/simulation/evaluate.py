"""Evaluation: exact sums over padded batches, for every network of a belief.

FedPM's belief theta stands for several networks, and papers differ in which
one they report: `sampled` (one mask; the official code), `mean` (weights times
theta) and `threshold` (theta >= 1/2).  All are evaluated, each under its name.
On demand more masks are drawn, for the spread of single masks, their majority
vote and their ensemble.

Dimensions: T batches of B test examples, n masks.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax import masks
from fedpm_jax.algorithms import local
from fedpm_jax.models.network import Network

P = jax.sharding.PartitionSpec


def padded(
  inputs: np.ndarray, labels: np.ndarray, *, batch_size: int, shards: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Cuts a test set into batches of one size, a multiple of `shards` of them.

  Args:
    inputs: `[N, ...]`.
    labels: int32 `[N]`.
    batch_size: B, at most; smaller where the set is small, so that little of
      the last batches is padding.
    shards: devices that share the batches.

  Returns:
    inputs `[T, B, ...]`, labels `[T, B]`, valid bool `[T, B]`, True on the
    N real examples.

  Raises:
    ValueError: on an empty set or a batch size below 1.
  """
  total = len(labels)
  if total < 1 or batch_size < 1:
    raise ValueError(
      'Evaluation needs at least one example and a batch size of at least 1,'
      f' got {total} examples and batches of {batch_size}.'
    )
  batches = shards * -(-total // (batch_size * shards))
  size = -(-total // batches)
  indices = np.arange(batches * size)
  valid = indices < total
  indices = np.where(valid, indices, 0)
  shape = (batches, size)
  return (
    inputs[indices].reshape(*shape, *inputs.shape[1:]),
    labels[indices].reshape(shape),
    valid.reshape(shape),
  )


class Tally(NamedTuple):
  """What several masks say of every test example, added up.

  Attributes:
    votes: int32 `[T, B, classes]`, how many of the masks predict each class.
    logits: float32 `[T, B, classes]`, the sum of their logits.
  """

  votes: jax.Array
  logits: jax.Array


class Sampled(NamedTuple):
  """Test examples that n sampled masks have right, alone and together.

  Attributes:
    correct: int32 `[n]`, of each mask; the first one is the network `sampled`.
    vote: int32, of their majority vote.
    ensemble: int32, of their mean logits.
  """

  correct: jax.Array
  vote: jax.Array
  ensemble: jax.Array


class Results(NamedTuple):
  """What an evaluation counts.

  Attributes:
    kinds: the sums of every network of the belief, by its name.
    mean_by_class: int32 `[classes]`, test examples of each class that the mean
      network has right.
    masks: None where one mask is drawn, which is the network `sampled`.
  """

  kinds: dict[str, local.Sums]
  mean_by_class: jax.Array
  masks: Sampled | None


def make_evaluate(
  network: Network,
  eval_params: Callable[[Any, jax.Array], dict[str, jax.Array]],
  mesh: jax.sharding.Mesh,
) -> Callable[..., Results]:
  """A jitted (server_state, keys, inputs, labels, valid) -> Results.

  A vote is the class that most masks predict, and of several such classes the
  lowest, as in the authors' code.  An ensemble predicts the highest mean logit,
  which is the highest geometric mean of the masks' probabilities.

  Args:
    network: whose `apply` is evaluated.
    eval_params: of the algorithm.
    mesh: the test batches are spread over its axis `clients`.

  Returns:
    The function; its keys are typed keys `[n]`, one for each mask that is
    drawn, and its batches are those of `padded`.  Two keys or more need an
    algorithm that has the network `sampled`.
  """

  sharded = _sharded(network, mesh)

  @functools.partial(jax.jit, compiler_options=network.compiler_options)
  def evaluate(server_state, keys, inputs, labels, valid):
    networks = eval_params(server_state, keys[0])
    kinds, stacked = list(networks), jnp.stack(list(networks.values()))
    several, tally = len(keys) > 1, None
    if several:
      tally = _empty_tally(network, stacked[0], inputs, labels)

    def params_of(i):
      if not several:
        return stacked[i]
      # Drawn one at a time, so that n masks need no more memory than one.
      more = lambda: eval_params(server_state, keys[i - len(kinds) + 1])
      return lax.cond(
        i < len(kinds), lambda: stacked[i], lambda: more()['sampled']
      )

    def one_network(tally, i):
      is_mask = i >= len(kinds)
      if several:
        is_mask |= i == kinds.index('sampled')
      total, by_class, tally = sharded(
        params_of(i), is_mask, tally, inputs, labels, valid
      )
      return tally, (total, by_class)

    # One compiled network for all: they differ in their numbers only.
    count = len(kinds) + len(keys) - 1
    tally, (totals, by_class) = lax.scan(one_network, tally, jnp.arange(count))
    drawn = None
    if tally is not None:
      first = totals.correct[kinds.index('sampled')]
      correct = jnp.append(first, totals.correct[len(kinds) :])
      drawn = Sampled(correct, *(_right(x, labels, valid) for x in tally))
    of_kind = lambda i: jax.tree.map(lambda x: x[i], totals)
    return Results(
      {kind: of_kind(i) for i, kind in enumerate(kinds)},
      by_class[kinds.index('mean')],
      drawn,
    )

  return evaluate


def _sharded(network: Network, mesh: jax.sharding.Mesh) -> Callable[..., Any]:
  """(params, is_mask, tally, inputs, labels, valid) -> Sums, int32 [classes],
  tally.

  Of one network; every device takes its share of the batches.
  """

  def evaluate_shard(params, is_mask, tally, inputs, labels, valid):
    tree = masks.unravel(network.layout, params)

    def one_batch(batch):
      tally, inputs, labels, valid = batch
      logits = network.apply(tree, inputs)
      if tally is not None:
        tally = _add(tally, logits, is_mask)
      sums = local.sums(logits, labels, valid)
      return sums, _right_by_class(logits, labels, valid), tally

    *sums, tally = lax.map(one_batch, (tally, inputs, labels, valid))
    sums = jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), sums)
    return *jax.tree.map(lambda x: lax.psum(x, 'clients'), sums), tally

  batches = P('clients')
  return jax.shard_map(
    evaluate_shard,
    mesh=mesh,
    in_specs=(P(), P(), batches, batches, batches, batches),
    out_specs=(P(), P(), batches),
    check_vma=False,
  )


def _empty_tally(
  network: Network, params: jax.Array, inputs: jax.Array, labels: jax.Array
) -> Tally:
  """Zeros for every test example and class."""
  tree = masks.unravel(network.layout, params)
  logits = jax.eval_shape(network.apply, tree, inputs[0])
  shape = (*labels.shape, logits.shape[-1])
  return Tally(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))


def _add(tally: Tally, logits: jax.Array, is_mask: jax.Array) -> Tally:
  """The tally of a batch with one network more, if that is a sampled mask."""
  classes = logits.shape[-1]
  vote = jax.nn.one_hot(jnp.argmax(logits, axis=-1), classes, dtype=jnp.int32)
  return Tally(
    tally.votes + jnp.where(is_mask, vote, 0),
    tally.logits + jnp.where(is_mask, logits, 0.0),
  )


def _right(scores: jax.Array, labels: jax.Array, valid: jax.Array) -> jax.Array:
  """How many examples have the highest score at their label, int32."""
  return jnp.sum(
    (jnp.argmax(scores, axis=-1) == labels) & valid, dtype=jnp.int32
  )


def _right_by_class(
  logits: jax.Array, labels: jax.Array, valid: jax.Array
) -> jax.Array:
  """How many examples of each class are right, int32 `[classes]`."""
  hits = (jnp.argmax(logits, axis=-1) == labels) & valid
  classes = jnp.where(hits, labels, -1)  # -1 is no class
  ones = jax.nn.one_hot(classes, logits.shape[-1], dtype=jnp.int32)
  return jnp.sum(ones, axis=0, dtype=jnp.int32)


def to_metrics(results: Results) -> dict[str, float]:
  """Sums on the device to the metrics `eval/...` of a row."""
  row, results = {}, jax.device_get(results)
  examples = 0
  for kind, total in results.kinds.items():
    examples = int(total.examples)
    row[f'eval/accuracy_{kind}'] = int(total.correct) / examples
    row[f'eval/loss_{kind}'] = float(total.loss) / examples
  if results.masks is not None:
    correct, vote, ensemble = results.masks
    shares = [int(count) / examples for count in correct]
    row |= {
      'eval/accuracy_sampled_mean': float(np.mean(shares)),
      'eval/accuracy_sampled_std': float(np.std(shares, ddof=1)),
      'eval/accuracy_vote': int(vote) / examples,
      'eval/accuracy_ensemble': int(ensemble) / examples,
    }
  return row
