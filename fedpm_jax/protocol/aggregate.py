"""Adds up what arrives, then updates the server's state once.

Messages are added one by one, so that the server holds one sum, for any number
of clients.  A client that foresees the next theta adds up its guesses in the
same way.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedpm_jax import masks
from fedpm_jax.prng import keys
from fedpm_jax.protocol.method import Method


class Aggregation(NamedTuple):
  """Three jitted functions.

  Attributes:
    start: () -> total `[d]` of no clients: int32 where masks arrive, float32
      where changes do.
    add: (total, key words `[4]` of the client's compressor, symbols, payload
      `[d]`) -> total, with what the client's symbols stand for; bits are
      packed, uint8 `[ceil(n / 8)]`.  The old total is donated.
    finish: (server_state, total, K, round_idx) -> (server_state, info), the
      algorithm's `server_update`, of the total without the bias of bits that
      were flipped on purpose; the old state is donated.
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

  def add(total, key_words, symbols, payload):
    if method.symbols_are_bits:
      count = sum(compressor.sizes)
      symbols = jnp.unpackbits(symbols, count=count).astype(jnp.bool_)
    key = keys.wrap(key_words)
    return total + compressor.decompress(key, symbols, payload).astype(dtype)

  def finish(server_state, total, count, round_idx):
    if compressor.flips:
      total = _unflipped(total, count, compressor.flips)
    return algorithm.server_update(server_state, total, count, round_idx)

  return Aggregation(
    jax.jit(start),
    jax.jit(add, donate_argnums=0),
    jax.jit(finish, static_argnums=2, donate_argnums=0),
  )


def _unflipped(total: jax.Array, count: int, flips: int) -> jax.Array:
  """The counts of ones that these counts of flipped bits stand for.

  Args:
    total: int32 `[d]`, the ones that arrived.
    count: K, from how many clients.
    flips: of each bit, out of 65536.

  Returns:
    float32 `[d]`, without bias; perhaps outside of [0, K].
  """
  f = flips / masks.SCALE
  return (total.astype(jnp.float32) - count * f) / (1 - 2 * f)
