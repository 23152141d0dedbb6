"""Evaluation: exact sums over padded batches, for every network of a belief.

FedPM's belief theta stands for several networks, and papers differ in which
one they report: `sampled` (one mask; the official code), `mean` (weights times
theta) and `threshold` (theta >= 1/2).  All are evaluated, each under its name.

Dimensions: T batches of B test examples.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax import masks
from fedpm_jax.algorithms import local
from fedpm_jax.models.network import Network

P = jax.sharding.PartitionSpec


def padded(
  images: np.ndarray, labels: np.ndarray, *, batch_size: int, shards: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Cuts a test set into batches of one size, a multiple of `shards` of them.

  Args:
    images: uint8 `[N, H, W, C]`.
    labels: int32 `[N]`.
    batch_size: B, at most; smaller where the set is small, so that little of
      the last batches is padding.
    shards: devices that share the batches.

  Returns:
    images `[T, B, H, W, C]`, labels `[T, B]`, valid bool `[T, B]`, True on the
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
    images[indices].reshape(*shape, *images.shape[1:]),
    labels[indices].reshape(shape),
    valid.reshape(shape),
  )


def make_evaluate(
  network: Network,
  eval_params: Callable[[Any, jax.Array], dict[str, jax.Array]],
  mesh: jax.sharding.Mesh,
) -> Callable[..., dict[str, local.Sums]]:
  """A jitted (server_state, key, images, labels, valid) -> {kind: Sums}.

  Args:
    network: whose `apply` is evaluated.
    eval_params: of the algorithm.
    mesh: the test batches are spread over its axis `clients`.

  Returns:
    The function; its batches are those of `padded`.
  """

  def evaluate_shard(params, images, labels, valid):
    tree = masks.unravel(network.layout, params)

    def one_batch(batch):
      images, labels, valid = batch
      return local.sums(network.apply(tree, images), labels, valid)

    total = lax.map(one_batch, (images, labels, valid))
    total = jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), total)
    return jax.tree.map(lambda x: lax.psum(x, 'clients'), total)

  batches = P('clients')
  sharded = jax.shard_map(
    evaluate_shard,
    mesh=mesh,
    in_specs=(P(), batches, batches, batches),
    out_specs=P(),
    check_vma=False,
  )

  @functools.partial(jax.jit, compiler_options=network.compiler_options)
  def evaluate(server_state, key, images, labels, valid):
    networks = eval_params(server_state, key)
    stacked = jnp.stack(list(networks.values()))
    # One compiled network for all kinds: they differ in their numbers only.
    totals = lax.map(lambda p: sharded(p, images, labels, valid), stacked)
    return {
      kind: jax.tree.map(lambda x, i=i: x[i], totals)
      for i, kind in enumerate(networks)
    }

  return evaluate


def to_metrics(results: dict[str, local.Sums]) -> dict[str, float]:
  """Sums on the device to `eval/accuracy_<kind>` and `eval/loss_<kind>`."""
  row = {}
  for kind, total in jax.device_get(results).items():
    row[f'eval/accuracy_{kind}'] = int(total.correct) / int(total.examples)
    row[f'eval/loss_{kind}'] = float(total.loss) / int(total.examples)
  return row
