"""Both ways over the wire for a whole cohort: encode, meter, decode.

What the receiver knows beforehand is worked out here, once, for both ends:
theta, the guesses of masks whose dithers are shared, and which theta a client
already has.

Dimensions: M clients in the population, K in the cohort, d parameters.
"""

import collections
import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax import codecs
from fedpm_jax.algorithms.base import Algorithm
from fedpm_jax.codecs import dither, theta_news
from fedpm_jax.compressors.base import Compressor
from fedpm_jax.models.network import Network
from fedpm_jax.prng import dithers, keys
from fedpm_jax.protocol import wire
from fedpm_jax.protocol.aggregate import Aggregation
from fedpm_jax.system import machine

_MAX_THREADS = 8


class Method(NamedTuple):
  """A method: algorithm x compressor x codecs, and the network it trains."""

  network: Network
  algorithm: Algorithm
  compressor: Compressor
  uplink: str  # a key of `codecs.CODECS`
  downlink: str


class Known(NamedTuple):
  """Who has which theta, as the server keeps it; checkpointed.

  Attributes:
    q: uint16 `[d]`, the theta of the last round.
    members: bool `[M]`, who took part in it and so has it; before the first
      round it is everybody, since it follows from the seed.
  """

  q: np.ndarray
  members: np.ndarray


class Received(NamedTuple):
  """One client's message after decoding.

  Attributes:
    symbols: `[n]` or, bits, packed uint8 `[ceil(n / 8)]`, as they were sent.
    num_bytes: the length of the message.
    density: where the mask is sent as it is, its share of ones; else None.
    seconds: CPU time of its thread to encode and decode it.
  """

  symbols: np.ndarray
  num_bytes: int
  density: float | None
  seconds: float


class Sent(NamedTuple):
  """The broadcast, after the wire.

  Attributes:
    num_bytes: the message's length, for each client.
    seconds: CPU time of a thread to encode and decode it.
  """

  num_bytes: list[int]
  seconds: float


class _Foreseen(NamedTuple):
  """What the guesses of a round lead to, and which round that was."""

  q: np.ndarray
  members: list[int]
  round_idx: int
  context: np.ndarray
  total: jax.Array  # int32 `[d]`, the sum of the guesses


class Exchange:
  """Encodes and decodes a method's messages.

  Holds no state of the run, but remembers the last round's guesses: what was
  worked out for the uplink need not be worked out again for the next downlink.
  """

  def __init__(self, method: Method, *, seed: int, aggregation: Aggregation):
    """Nothing is computed yet.

    Args:
      method: see `Method`.
      seed: the experiment's.
      aggregation: of the method: what guesses would lead to.
    """
    layout, compressor = method.network.layout, method.compressor
    self._method = method
    self._seed = seed
    self._aggregation = aggregation
    self._size = layout.num_parameters
    self._sizes = layout.sizes
    self._num_symbols = sum(compressor.sizes)
    self._layout_hash = wire.layout_hash(layout.names, layout.shapes)
    self._are_bits = compressor.symbols == 'mask'
    # Where the payload is a theta, it helps to code masks.
    self._has_theta = method.algorithm.payload == 'theta'
    self._shared = method.uplink == 'dither'
    self._foresees = self._shared and method.downlink == 'theta_news'
    self._last: _Foreseen | None = None
    # Checksums, sorting and copies let other threads run; the range coder, a
    # sixth of the time, does not.
    self._ahead = min(machine.cores(), _MAX_THREADS)
    self._threads = futures.ThreadPoolExecutor(self._ahead)
    self._guess = jax.jit(
      device_guess, compiler_options=method.network.compiler_options
    )

  def guesses(self, q: np.ndarray, ids: np.ndarray, round_idx: int):
    """The guess of every client's mask, one after another, client by client."""
    words = keys.words(
      self._seed, keys.Purpose.UPLINK, round_idx=round_idx, client=ids
    )
    # The device works on the next guess while the host codes with this one.
    on_device = jnp.asarray(q)
    coming = self._guess(keys.wrap(words[0]), on_device)
    for following in [*words[1:], None]:
      guess = codecs.base.Guess(*map(np.asarray, coming))
      if following is not None:
        coming = self._guess(keys.wrap(following), on_device)
      yield guess

  def uplink(
    self,
    arriving: Iterable[np.ndarray],
    payload: np.ndarray,
    ids: np.ndarray,
    round_idx: int,
  ) -> Iterator[Received]:
    """Every client's message, encoded, metered and decoded, in their order.

    Messages are coded in threads, while those of the next turn still train.

    Args:
      arriving: the K clients' symbols, `[n]` or, bits, packed uint8
        `[ceil(n / 8)]`, one after another; perhaps those of idle clients behind
        them, for whom nobody asks.
      payload: what the round started from, `[d]`.
      ids: int `[K]`.
      round_idx: 0-based.
    """
    method, compressor = self._method, self._method.compressor
    q = payload if self._has_theta else None
    foresight = None
    if self._foresees:
      foresight = _Foresight(q, self._aggregation)

    def receive(client, guess, sent):
      start = time.thread_time()
      side = codecs.SideInformation(
        q=q if self._are_bits else None,
        sizes=compressor.sizes,
        guess=guess,
      )
      if self._are_bits:
        sent = np.unpackbits(sent, count=self._num_symbols).view(np.bool_)
      symbols, num_bytes = self._carry(
        sent,
        side,
        codec=method.uplink,
        kind=wire.Kind.UPLINK,
        round_idx=round_idx,
        client=client,
      )
      problem = compressor.check(symbols)
      if problem:
        raise codecs.WireError(f'symbols of client {client}: {problem}.')
      density = None
      if compressor.symbols_are_the_mask:
        density = np.count_nonzero(symbols) / self._size
      if self._are_bits:
        symbols = np.packbits(symbols)
      seconds = time.thread_time() - start
      return Received(symbols, num_bytes, density, seconds), guess

    clients = [int(client) for client in ids]
    guesses = itertools.repeat(None)
    if self._shared:
      guesses = self.guesses(q, ids, round_idx)
    # A guess first: a GPU would make it wait for the turn that comes next.
    for received, guess in self._map(
      receive, zip(clients, guesses, arriving, strict=False)
    ):
      if foresight:
        foresight.add(guess)
      yield received
    if foresight:
      self._last = foresight.seen(ids, round_idx)

  def downlink(
    self,
    payload: np.ndarray,
    known: Known | tuple,
    server_state: Any,
    ids: np.ndarray,
    round_idx: int,
    *,
    codec: str | None = None,
  ) -> futures.Future[Sent]:
    """The broadcast, encoded, metered and decoded in a thread.

    One message goes to all who have the last theta, and one, without a past, to
    all others.  No codec of a downlink loses a bit, so that a simulation's
    clients need not wait for what they know.

    Args:
      payload: what the algorithm broadcasts, `[d]`.
      known: who has which theta; empty where the codec does not ask.
      server_state: only its shapes are used.
      ids: the cohort's, `[K]`.
      round_idx: 0-based.
      codec: instead of the method's, to compare.

    Returns:
      A future; its result raises WireError if a client decoded anything else
      than the payload.
    """
    codec = codec or self._method.downlink
    address = {
      'kind': wire.Kind.DOWNLINK,
      'round_idx': round_idx,
      'client': wire.EVERYONE,
    }
    side = codecs.SideInformation(sizes=self._sizes)
    informed = known.members[ids] if known else np.zeros(len(ids), np.bool_)
    messages = []
    if informed.any():
      expected = self.expected(known, server_state, round_idx)
      messages.append((informed, side._replace(expected=expected), codec))
    if not informed.all():
      messages.append((~informed, side, 'theta_levels' if known else codec))

    def send():
      start = time.thread_time()
      num_bytes = np.zeros(len(ids), np.int64)
      for receivers, side, codec in messages:
        received, num_bytes[receivers] = self._carry(
          payload, side, codec=codec, **address
        )
        if not np.array_equal(received.view('u1'), payload.view('u1')):
          raise codecs.WireError(
            f'broadcast of round {round_idx}: {codec} decoded it to other'
            ' values.'
          )
      return Sent(num_bytes.tolist(), time.thread_time() - start)

    return self._threads.submit(send)

  def _map(self, function, arguments):
    """`itertools.starmap` in threads, a few steps ahead of whoever reads it.

    A guess is 3 B a parameter: the whole cohort's must not wait side by side.
    """
    running = collections.deque()
    for each in arguments:
      running.append(self._threads.submit(function, *each))
      if len(running) > self._ahead:
        yield running.popleft().result()
    while running:
      yield running.popleft().result()

  def _carry(self, symbols, side, **address):
    """Over the wire and back: what was decoded, and the message's length."""
    address['layout_hash'] = self._layout_hash
    message = wire.encode(symbols, side, **address)
    return wire.decode(message, side, **address), len(message)

  def expected(
    self, known: Known, server_state: Any, round_idx: int
  ) -> codecs.base.Expected:
    """What a client that has the last round's theta expects of this one's.

    Args:
      known: who has which theta.
      server_state: only its shapes are used.
      round_idx: 0-based.
    """
    algorithm = self._method.algorithm
    last = round_idx - 1
    if not (
      self._shared and round_idx and algorithm.depends_only_on_round(last)
    ):
      return theta_news.by_level(known.q)
    foreseen = self._foresee(known.q, np.flatnonzero(known.members), last)
    # The state before does not matter: the algorithm forgets it.
    state, _ = self._aggregation.finish(
      jax.tree.map(jnp.zeros_like, server_state),
      foreseen.total,
      len(foreseen.members),
      np.int32(last),
    )
    q = np.asarray(algorithm.broadcast(state))
    return codecs.base.Expected(q, foreseen.context)

  def _foresee(self, q, ids, round_idx) -> _Foreseen:
    last = self._last
    if (
      last is not None
      and (last.round_idx, last.members) == (round_idx, ids.tolist())
      and np.array_equal(last.q, q)
    ):
      return last
    foresight = _Foresight(q, self._aggregation)
    for guess in self.guesses(q, ids, round_idx):
      foresight.add(guess)
    return foresight.seen(ids, round_idx)


class _Foresight:
  """Collects the guesses of a round."""

  def __init__(self, q: np.ndarray, aggregation: Aggregation):
    self._q, self._on_device = q, jnp.asarray(q)
    self._foresight = theta_news.Foresight(q.size)
    self._aggregation = aggregation
    self._total = aggregation.start()

  def add(self, guess: codecs.base.Guess) -> None:
    self._foresight.add(guess)
    # A guess is a mask as it arrives, whatever the key.
    self._total = self._aggregation.add(
      self._total,
      np.zeros(4, np.uint32),
      np.packbits(guess.mask),
      self._on_device,
    )

  def seen(self, ids, round_idx) -> _Foreseen:
    context = self._foresight.context
    return _Foreseen(self._q, ids.tolist(), round_idx, context, self._total)


def device_guess(key: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
  """`dither.guess` for the dithers of a key, on the device that draws them."""
  u = dithers.bits16(key, q.size)
  logit_q, logit_u = jnp.asarray(dither.LOGIT_Q), jnp.asarray(dither.LOGIT_U)
  distance = jnp.abs(logit_q[q] - logit_u[u])
  return u < q, distance.astype(jnp.uint16)


def estimated_bpp(density: float, size: int) -> float:
  """The paper's estimate of a mask's cost: H2(density) + log2(d) / d.

  One frequency for the whole mask, no coder, no header; `uplink/bpp_wire` is
  what was really sent.  Computed on the true bits: the official code's clipping
  of the mask to {0.01, 0.99} biases it.

  Args:
    density: share of ones, in [0, 1].
    size: d.

  Returns:
    Bits per parameter.
  """
  p = np.array([density, 1 - density])
  p = p[p > 0]
  return float(-(p * np.log2(p)).sum() + np.log2(size) / size)
