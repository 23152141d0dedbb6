"""The server's half of the protocol: broadcast, open, aggregate.

    broadcast  payload -> a message for clients that hold the last one, or none
    open       a client's bytes -> symbols, or a WireError before any state moves
    aggregate  start, add one client's symbols after another, finish

Dimensions: M clients in the population, K in the cohort, d parameters, n
symbols.
"""

from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from fedpm_jax import codecs
from fedpm_jax.prng import keys
from fedpm_jax.protocol import addresses, aggregate, wire
from fedpm_jax.protocol.foresight import Foreseen, Foresight
from fedpm_jax.protocol.method import Method


class Held(NamedTuple):
  """Who holds which theta, as the server keeps it; checkpointed.

  Attributes:
    q: uint16 `[d]`, the theta that the last round started from.
    members: bool `[M]`, whose updates that round added up, and who so hold it;
      before the first round everybody, since it follows from the seed.
  """

  q: np.ndarray | jax.Array
  members: np.ndarray | jax.Array

  @property
  def ids(self) -> np.ndarray:
    """int `[K]`, the ids of the members."""
    return np.flatnonzero(self.members)


class Server:
  """The server of a method; its state is handed in and out."""

  def __init__(self, method: Method, *, seed: int):
    """Compiles nothing yet.

    Args:
      method: see `Method`.
      seed: the experiment's.
    """
    self._method = method
    self._seed = seed
    self.aggregation = aggregate.make(method)
    self.foresight = Foresight(method, seed=seed, aggregation=self.aggregation)

  def init(self) -> tuple[Any, Any]:
    """The states of the server and of one client before the first round."""
    key = keys.derive(self._seed, keys.Purpose.SCORES)
    return jax.jit(self._method.algorithm.init)(key)

  def payload(self, server_state: chex.ArrayTree) -> np.ndarray:
    """What the round's clients are sent, `[d]`; a copy, the state is donated."""
    return np.array(self._method.algorithm.broadcast(server_state))

  def expected(
    self, held: Held, round_idx: int, foreseen: Foreseen | None = None
  ) -> codecs.base.Expected:
    """What clients that hold the last theta expect of this round's.

    Args:
      held: who holds it.
      round_idx: 0-based.
      foreseen: the last round's guesses, if they are at hand.
    """
    return self.foresight.expected(held.q, held.ids, round_idx, foreseen)

  def broadcast(
    self,
    payload: np.ndarray,
    expected: codecs.base.Expected | None,
    *,
    round_idx: int,
  ) -> memoryview:
    """One message for all clients that hold the same.

    Args:
      payload: what the algorithm broadcasts, `[d]`.
      expected: by clients that hold the last theta; None for clients that hold
        none, who get the whole payload.
      round_idx: 0-based.
    """
    codec = codecs.CODECS[self._method.downlink]
    if 'expected' in codec.needs and expected is None:
      codec = codecs.CODECS[codec.fallback]
    return wire.encode(
      payload,
      addresses.downlink_side(self._method, codec.name, expected),
      **addresses.downlink(self._method, codec.name, round_idx),
    )

  def open(
    self,
    message: bytes | memoryview,
    payload: np.ndarray,
    *,
    client: int,
    round_idx: int,
    guess: codecs.base.Guess | None = None,
  ) -> np.ndarray:
    """A client's symbols, if the message is just the one that is due.

    Args:
      message: the bytes received; they may be anything.
      payload: what the round started from, `[d]`.
      client: who should have sent it.
      round_idx: 0-based.
      guess: of the mask, which both ends have; worked out where it is None.

    Returns:
      `[n]`, for `aggregation.add`; bits are not packed.

    Raises:
      WireError: anything about the message is odd, or no client can have sent
        these symbols.
    """
    method = self._method
    if guess is None and method.dithers_are_shared:
      (guess,) = self.foresight.guesses(payload, np.array([client]), round_idx)
    symbols = wire.decode(
      message,
      addresses.uplink_side(method, payload, guess),
      **addresses.uplink(method, round_idx, client),
    )
    problem = method.compressor.check(symbols)
    if problem:
      raise codecs.WireError(f'symbols of client {client}: {problem}.')
    return symbols
