"""The server's half of the protocol: broadcast, open, aggregate.

    broadcast    payload -> a message: a short one for clients that hold the last
                 payload, a whole one for all others
    open         a client's bytes -> symbols, or a WireError before any state moves
    aggregation  start, add one client's symbols after another, finish

A message that raises WireError counts for nothing: its client is left out of K,
and of the next `Held`.  So is the client of a mask that `robust` finds too far
from theta.

Dimensions: M clients in the population, K in the cohort, d parameters, n
symbols.
"""

from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from fedpm_jax import codecs
from fedpm_jax.prng import keys
from fedpm_jax.protocol import aggregate, headers, wire
from fedpm_jax.protocol.foresight import Foreseen, Foresight
from fedpm_jax.protocol.method import Method, first_states


class Held(NamedTuple):
  """Who holds which theta, as the server keeps it; checkpointed.

  Attributes:
    q: uint16 `[d]`, the theta that the last round started from.
    members: bool `[M]`, the clients whose updates that round added up: they
      hold its theta.  Before the first round it is everybody, because theta
      follows from the seed.
  """

  q: np.ndarray | jax.Array
  members: np.ndarray | jax.Array

  @property
  def ids(self) -> np.ndarray:
    """int `[K]`, the ids of the members."""
    return np.flatnonzero(self.members)


class Server:
  """The server of a method; its state is handed in and out."""

  def __init__(
    self, method: Method, *, seed: int, weights: np.ndarray | None = None
  ):
    """Compiles nothing yet.

    Args:
      method: see `Method`.
      seed: the experiment's.
      weights: int `[M]`, how much each client counts; None: all the same.
    """
    self._method = method
    self._seed = seed
    self._weights = weights
    self.aggregation = aggregate.make(method)
    self.foresight = Foresight(
      method, seed=seed, aggregation=self.aggregation, weights=weights
    )

  def init(self) -> tuple[Any, Any]:
    """The states of the server and of one client before the first round."""
    return first_states(self._method, self._seed)

  def payload(self, server_state: chex.ArrayTree) -> np.ndarray:
    """What clients are sent, `[d]`; a copy, because the state is donated."""
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
      expected: by clients that hold the last theta; None for all others, who
        get the whole payload.
      round_idx: 0-based.
    """
    codec = codecs.CODECS[self._method.downlink]
    if 'expected' in codec.needs and expected is None:
      codec = codecs.CODECS[codec.fallback]
    return wire.encode(
      payload,
      headers.downlink_side(self._method, codec.name, expected),
      **headers.downlink_fields(self._method, codec.name, round_idx),
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
      What `aggregation.add` takes: `[n]` or, bits, packed uint8 `[ceil(n /
      8)]`.

    Raises:
      WireError: anything about the message is odd, or no client can have sent
        these symbols.
    """
    method = self._method
    fields = headers.uplink_fields(method, round_idx, client)
    if guess is None and method.dithers_are_shared:
      # A guess is expensive, so junk must be found before it.
      wire.check(message, sum(method.compressor.sizes), **fields)
      (guess,) = self.foresight.guesses(payload, np.array([client]), round_idx)
    side = headers.uplink_side(method, payload, guess)
    symbols = wire.decode(message, side, **fields)
    problem = method.compressor.check(symbols)
    if problem:
      raise codecs.WireError(f'symbols of client {client}: {problem}.')
    return np.packbits(symbols) if method.symbols_are_bits else symbols

  def weight(self, client: int) -> np.int32 | None:
    """What a client counts; `aggregation.add` takes it."""
    return aggregate.weight_of(self._weights, client)

  def weight_sum(self, ids: np.ndarray) -> aggregate.WeightSum | None:
    """What clients count together; `aggregation.finish` takes it."""
    return aggregate.weight_sum(self._weights, ids)

  def uplink_keys(self, ids: int | np.ndarray, round_idx: int) -> np.ndarray:
    """Words of the key that each client's compressor has, uint32 `[..., 4]`.

    `aggregation.add` takes those of one client.

    Args:
      ids: int `[...]`.
      round_idx: 0-based.
    """
    return keys.words(
      self._seed, keys.Purpose.UPLINK, round_idx=round_idx, client=ids
    )

  def held_after(
    self, payload: np.ndarray, ids: np.ndarray, num_clients: int
  ) -> Held:
    """Who holds what after a round.

    Args:
      payload: what the round started from, `[d]`.
      ids: int `[K]`, whose updates were added up.
      num_clients: M.
    """
    return Held(payload, np.isin(np.arange(num_clients), ids))
