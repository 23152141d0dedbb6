"""What both ends work out without a message.

Where dithers are shared, whoever knows the theta of a round can guess the mask
of each of its clients, and so the theta that these masks lead to.  Both
directions code only where a guess is wrong.

Everything here is a pure function of (method, seed, theta, clients, round).
Guesses are expensive, so those of the uplink may be handed on, as `Foreseen`,
to the next downlink; without them they are worked out again, with the same
result.

Dimensions: K clients of a round, d parameters.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax.codecs import dither, theta_news
from fedpm_jax.codecs.base import Expected, Guess
from fedpm_jax.prng import dithers, keys
from fedpm_jax.protocol.aggregate import Aggregation, weight_of, weight_sum
from fedpm_jax.protocol.method import Method


class Foreseen(NamedTuple):
  """What the guesses of a round lead to, and which round that was.

  Attributes:
    q: uint16 `[d]`, the theta that the round started from.
    ids: int `[K]`, whose masks were guessed.
    round_idx: 0-based.
    context: uint8 `[d]`, see `codecs.base.Expected`.
    total: int32 `[d]`, the sum of the guesses, each times its client's weight.
  """

  q: np.ndarray | jax.Array
  ids: np.ndarray
  round_idx: int
  context: np.ndarray
  total: jax.Array

  def is_of(
    self, q: np.ndarray | jax.Array, ids: np.ndarray, round_idx: int
  ) -> bool:
    """Whether these are the guesses of just that round."""
    return (
      self.round_idx == round_idx
      and np.array_equal(self.ids, ids)
      and np.array_equal(self.q, q)
    )


class Foresight:
  """Guesses the masks of a method's clients, and the next theta."""

  def __init__(
    self,
    method: Method,
    *,
    seed: int,
    aggregation: Aggregation,
    weights: np.ndarray | None = None,
  ):
    """Nothing is computed yet.

    Args:
      method: see `Method`.
      seed: the experiment's; all dithers follow from it.
      aggregation: of the method: what masks lead to.
      weights: int `[M]`, how much each client counts; None: all the same.
    """
    self._method = method
    self._seed = seed
    self._weights = weights
    self._aggregation = aggregation
    self._guess = jax.jit(
      device_guess, compiler_options=method.network.compiler_options
    )

  def guesses(
    self, q: np.ndarray | jax.Array, ids: np.ndarray, round_idx: int
  ) -> Iterator[Guess]:
    """The guess of every client's mask, one after another.

    Args:
      q: uint16 `[d]`, the theta that the round started from.
      ids: int `[K]`.
      round_idx: 0-based.
    """
    words = keys.words(
      self._seed, keys.Purpose.UPLINK, round_idx=round_idx, client=ids
    )
    # The device works on the next guess while the host codes with this one.
    on_device = jnp.asarray(q)
    coming = self._guess(keys.wrap(words[0]), on_device)
    for following in [*words[1:], None]:
      guess = Guess(*map(np.asarray, coming))
      if following is not None:
        coming = self._guess(keys.wrap(following), on_device)
      yield guess

  def empty_sum(
    self, q: np.ndarray | jax.Array, ids: np.ndarray, round_idx: int
  ) -> 'GuessSum':
    """An empty sum of a round's guesses; arguments as of `guesses`."""
    return GuessSum(self._aggregation, self._weights, q, ids, round_idx)

  def expected(
    self,
    q: np.ndarray | jax.Array,
    ids: np.ndarray,
    round_idx: int,
    foreseen: Foreseen | None = None,
  ) -> Expected:
    """What a client that holds the last round's theta expects of this one's.

    Args:
      q: uint16 `[d]`, the theta that the last round started from.
      ids: int `[K]`, whose updates the last round added up.
      round_idx: of this round, 0-based.
      foreseen: the last round's guesses, if they are at hand.
    """
    algorithm, last = self._method.algorithm, round_idx - 1
    if not (
      self._method.payload_is_foreseen
      and round_idx
      and len(ids)  # Nobody's mask can be guessed.
      and algorithm.depends_only_on_round(last)
    ):
      return theta_news.by_level(np.asarray(q))
    if foreseen is None or not foreseen.is_of(q, ids, last):
      guess_sum = self.empty_sum(q, ids, last)
      for guess in self.guesses(q, ids, last):
        guess_sum.add(guess)
      foreseen = guess_sum.foreseen()
    # Any state will do, because the next one does not depend on it.
    blank = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self._state_shapes
    )
    state, _ = self._aggregation.finish(
      blank,
      foreseen.total,
      len(ids),
      np.int32(last),
      weight_sum(self._weights, ids),
    )
    return Expected(np.asarray(algorithm.broadcast(state)), foreseen.context)

  @functools.cached_property
  def _state_shapes(self) -> Any:
    key = jax.eval_shape(lambda: keys.derive(0, keys.Purpose.SCORES))
    return jax.eval_shape(self._method.algorithm.init, key)[0]


class GuessSum:
  """The guesses of a round, added up one after another."""

  def __init__(
    self,
    aggregation: Aggregation,
    weights: np.ndarray | None,
    q: np.ndarray | jax.Array,
    ids: np.ndarray,
    round_idx: int,
  ):
    """See `Foresight.empty_sum`."""
    self._round = (q, np.asarray(ids), round_idx)
    self._weights, self._coming = weights, iter(self._round[1].tolist())
    self._on_device = jnp.asarray(q)
    self._aggregation = aggregation
    self._contexts = theta_news.Contexts(q.size)
    self._total = aggregation.start()

  def add(self, guess: Guess) -> None:
    """Takes in the guess of the next client's mask, in the order of `ids`."""
    self._contexts.add(guess)
    weight = weight_of(self._weights, next(self._coming))
    # Dithered masks arrive as they are, and their compressor ignores the key.
    self._total = self._aggregation.add(
      self._total,
      np.zeros(4, np.uint32),
      np.packbits(guess.mask),
      self._on_device,
      weight,
    )

  @property
  def sums(self) -> tuple[Any, Any, Any]:
    """Three int32 `[d]`, which add up like the guesses that they are of."""
    return self._total, *self._contexts.sums

  def joined(self, ids: np.ndarray, sums: tuple[Any, Any, Any]) -> 'GuessSum':
    """The guesses of a whole round, of which this is a part.

    Args:
      ids: int `[K]`, of the whole round.
      sums: of all its parts, added up.
    """
    q, _, round_idx = self._round
    whole = GuessSum(self._aggregation, self._weights, q, ids, round_idx)
    whole._total, whole._contexts.sums = jnp.asarray(sums[0]), sums[1:]
    return whole

  def foreseen(self) -> Foreseen:
    """What the guesses so far lead to."""
    return Foreseen(*self._round, self._contexts.context, self._total)


def device_guess(key: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
  """`dither.guess` for the dithers of a key, on the device that draws them.

  Args:
    key: a typed key.
    q: uint16 `[d]`.

  Returns:
    The two fields of a `codecs.base.Guess`, bool `[d]` and uint16 `[d]`.
  """
  u = dithers.bits16(key, q.size)
  logit_q, logit_u = jnp.asarray(dither.LOGIT_Q), jnp.asarray(dither.LOGIT_U)
  distance = jnp.abs(logit_q[q] - logit_u[u])
  return u < q, distance.astype(jnp.uint16)
