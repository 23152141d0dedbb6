"""Connects the two halves of the protocol: threads, lengths, CPU times.

Each message is sealed by the client's half and opened by the server's, or the
other way round; what crosses is bytes.  This file codes nothing itself.  What
both ends derive, guesses and expectations, is worked out once for both.

Dimensions: M clients in the population, K in the cohort, d parameters, n
symbols.
"""

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from fedpm_jax import codecs
from fedpm_jax.protocol.client import Client
from fedpm_jax.protocol.foresight import Foreseen, GuessSum
from fedpm_jax.protocol.method import Method
from fedpm_jax.protocol.server import Held, Server
from fedpm_jax.system import machine

_MAX_THREADS = 8


class Sent(NamedTuple):
  """The broadcast's lengths and coding time.

  Attributes:
    num_bytes: the message's length, for each client of the cohort.
    seconds: CPU time of a thread to encode and decode it.
  """

  num_bytes: list[int]
  seconds: float


class Received(NamedTuple):
  """One client's message after decoding.

  Attributes:
    symbols: `[n]` or, bits, packed uint8 `[ceil(n / 8)]`, as they were decoded.
    num_bytes: the length of the message.
    density: where the mask is sent as it is, its share of ones; else None.
    seconds: CPU time of its thread to encode and decode it.
  """

  symbols: np.ndarray
  num_bytes: int
  density: float | None
  seconds: float


def threads() -> futures.ThreadPoolExecutor:
  """The threads that code messages; close them, for example with `with`.

  Checksums, sorting and copies let other threads run.  The range coder, a sixth
  of a message's coding time, does not.
  """
  return futures.ThreadPoolExecutor(_num_threads())


def _num_threads() -> int:
  return min(machine.cores(), _MAX_THREADS)


class Link:
  """Connects the halves of a method; holds no state of the run."""

  def __init__(self, method: Method, client: Client, server: Server):
    """Nothing is computed yet."""
    self._method = method
    self._client = client
    self._server = server

  def broadcast(
    self,
    pool: futures.ThreadPoolExecutor,
    payload: np.ndarray,
    held: Held | tuple[()],
    ids: np.ndarray,
    round_idx: int,
    foreseen: Foreseen | None = None,
  ) -> futures.Future[Sent]:
    """The broadcast, encoded, metered and decoded in a thread.

    Clients that hold the last theta get a short message, all others a whole
    one.  Codecs of a downlink lose nothing, so training starts before decoding.

    Args:
      pool: of `threads`.
      payload: what the algorithm broadcasts, `[d]`.
      held: who holds which theta; empty where the codec does not ask.
      ids: the cohort's, `[K]`.
      round_idx: 0-based.
      foreseen: the last round's guesses, if they are at hand.

    Returns:
      A future; its result raises WireError if a client decoded anything else
      than the payload.
    """
    informed = np.zeros(len(ids), np.bool_)
    if held:
      informed = np.asarray(held.members)[ids]
    groups: list[tuple[np.ndarray, codecs.base.Expected | None]] = []
    if held and informed.any():
      expected = self._server.expected(held, round_idx, foreseen)
      groups.append((informed, expected))
    if not informed.all():
      groups.append((~informed, None))
    last_ids = held.ids if held else np.zeros(0, np.int64)

    def send() -> Sent:
      start = time.thread_time()
      num_bytes = np.zeros(len(ids), np.int64)
      for receivers, expected in groups:
        message = self._server.broadcast(payload, expected, round_idx=round_idx)
        received, _ = self._client.open(
          message,
          None,
          round_idx=round_idx,
          last_ids=last_ids,
          expected=expected,
        )
        num_bytes[receivers] = len(message)
        if not np.array_equal(received.view('u1'), payload.view('u1')):
          raise codecs.WireError(
            f'broadcast of round {round_idx}: clients decoded other values.'
          )
      return Sent(num_bytes.tolist(), time.thread_time() - start)

    return pool.submit(send)

  def uplink(
    self,
    pool: futures.ThreadPoolExecutor,
    arriving: Iterable[np.ndarray],
    payload: np.ndarray,
    ids: np.ndarray,
    round_idx: int,
    guess_sum: GuessSum | None = None,
  ) -> Iterator[Received]:
    """Every client's message, sealed, metered and opened, in their order.

    Messages are coded in threads, while those of the next turn still train.

    Args:
      pool: of `threads`.
      arriving: the K clients' symbols, `[n]` or, bits, packed uint8
        `[ceil(n / 8)]`, one after another; perhaps those of idle clients behind
        them, for whom nobody asks.
      payload: what the round started from, `[d]`.
      ids: int `[K]`.
      round_idx: 0-based.
      guess_sum: takes in the guesses on their way, for the next downlink.
    """
    guesses: Iterable[codecs.base.Guess | None] = itertools.repeat(None)
    if self._method.dithers_are_shared:
      guesses = self._server.foresight.guesses(payload, ids, round_idx)

    def carry(client, guess, symbols):
      return self._carry(symbols, payload, client, round_idx, guess), guess

    # `zip` must draw the guess first.  Drawing symbols starts the next turn of
    # training, and a GPU would make the guess wait for it.
    work = zip(ids.tolist(), guesses, arriving, strict=False)
    for received, guess in ahead(pool, carry, work):
      if guess_sum is not None:
        guess_sum.add(guess)
      yield received

  def _carry(
    self,
    symbols: np.ndarray,
    payload: np.ndarray,
    client: int,
    round_idx: int,
    guess: codecs.base.Guess | None,
  ) -> Received:
    """One client's message over the wire."""
    start = time.thread_time()
    message = self._client.seal(
      symbols, payload, client=client, round_idx=round_idx, guess=guess
    )
    symbols = self._server.open(
      message, payload, client=client, round_idx=round_idx, guess=guess
    )
    density = None
    if self._method.compressor.symbols_are_the_mask:
      ones = int(np.bitwise_count(symbols).sum())  # They are packed.
      density = ones / sum(self._method.compressor.sizes)
    seconds = time.thread_time() - start
    return Received(symbols, len(message), density, seconds)


def ahead(
  pool: futures.ThreadPoolExecutor,
  function: Callable[..., Any],
  arguments: Iterable[tuple],
) -> Iterator[Any]:
  """`itertools.starmap` in threads, a few steps ahead of whoever reads it.

  A guess is 3 B a parameter: those of the whole cohort must not wait side by
  side, so arguments are taken one further ahead than there are threads.
  """
  running = collections.deque()
  for each in arguments:
    running.append(pool.submit(function, *each))
    if len(running) > _num_threads():
      yield running.popleft().result()
  while running:
    yield running.popleft().result()
