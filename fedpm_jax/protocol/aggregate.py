"""Adds up what arrives, then updates the server's state once.

Messages are added one by one, so that the server holds one sum, for any number
of clients.  A client that foresees the next theta adds up its guesses in the
same way.

Clients count the same, or by a weight: the number of their examples, which is
public.  Weights are integers, so that sums of masks are exact on every machine.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax import masks
from fedpm_jax.prng import keys
from fedpm_jax.protocol.method import Method


class Aggregation(NamedTuple):
  """Three jitted functions.

  Attributes:
    start: () -> total `[d]` of no clients: int32 where masks arrive, float32
      where changes do.
    add: (total, key words `[4]` of the client's compressor, symbols, payload
      `[d]`, weight) -> total, with what the client's symbols stand for; bits
      are packed, uint8 `[ceil(n / 8)]`.  The weight is an int32, or None where
      all clients count the same.  The old total is donated.
    finish: (server_state, total, K, round_idx, weight) -> (server_state, info),
      the algorithm's `server_update`.  The total that it gets is without the
      bias of bits that were flipped on purpose, and scaled so that the K
      clients' weights, whose `WeightSum` is given here, add up to K.  The old
      state is donated.
  """

  start: Callable[[], jax.Array]
  add: Callable[..., jax.Array]
  finish: Callable[..., tuple[Any, Any]]


def make(method: Method) -> Aggregation:
  """The aggregation of a method."""
  algorithm, compressor = method.algorithm, method.compressor
  size = method.network.layout.num_parameters
  counted = compressor.aggregated == 'mask'
  dtype = jnp.int32 if counted else jnp.float32

  def start():
    return jnp.zeros(size, dtype)

  def add(total, key_words, symbols, payload, weight=None):
    if method.symbols_are_bits:
      count = sum(compressor.sizes)
      symbols = jnp.unpackbits(symbols, count=count).astype(jnp.bool_)
    key = keys.wrap(key_words)
    update = compressor.decompress(key, symbols, payload).astype(dtype)
    return total + (update if weight is None else weight * update)

  def finish(server_state, total, count, round_idx, weight=None):
    if compressor.flips:
      of = count if weight is None else weight.total
      total = _unflipped(total, of, compressor.flips)
    if weight is not None:
      total = weight.scale * total.astype(jnp.float32)
    return algorithm.server_update(server_state, total, count, round_idx)

  return Aggregation(
    jax.jit(start),
    jax.jit(add, donate_argnums=0),
    jax.jit(finish, static_argnums=2, donate_argnums=0),
  )


class WeightSum(NamedTuple):
  """What K clients count together.

  Attributes:
    total: int32, the sum of their weights.
    scale: float32, K / total.  It is computed on the host: one product is the
      same on every device, a quotient may not be, because XLA may multiply by a
      rounded inverse.
  """

  total: np.int32
  scale: np.float32


def weight_of(weights: np.ndarray | None, client: int) -> np.int32 | None:
  """What a client counts; None where all count the same.

  Args:
    weights: int `[M]`, or None.
    client: its id.
  """
  return None if weights is None else np.int32(weights[client])


def weight_sum(weights: np.ndarray | None, ids: np.ndarray) -> WeightSum | None:
  """What clients count together; None where all count the same.

  Args:
    weights: int `[M]`, or None.
    ids: int `[K]`.
  """
  if weights is None:
    return None
  total = np.int32(weights[ids].sum())
  return WeightSum(total, np.float32(len(ids) / total))


def _unflipped(
  total: jax.Array, count: int | jax.Array, flips: int
) -> jax.Array:
  """The counts of ones that these counts of flipped bits stand for.

  Args:
    total: int32 `[d]`, the ones that arrived.
    count: K, from how many clients, or the sum of their weights.
    flips: of each bit, out of 65536.

  Returns:
    float32 `[d]`, without bias; perhaps outside of [0, count].
  """
  f = flips / masks.SCALE
  return (total.astype(jnp.float32) - count * f) / (1 - 2 * f)
