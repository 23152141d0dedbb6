"""The client's half of the protocol: open, train, seal.

    open    a broadcast's bytes, and what the client remembers -> the payload
    train   payload and examples -> symbols; pure, one jitted program
    seal    symbols -> a message's bytes

A simulation vectorises `train` over a cohort and meters what `open` and `seal`
take and give; a real client calls the three in this order.  Compression belongs
to `train`, because it is one program with it on the device.

Dimensions: S local steps, B batch, N examples, d parameters, n symbols.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax import codecs
from fedpm_jax.algorithms import local
from fedpm_jax.prng import keys, threefry
from fedpm_jax.protocol import addresses, aggregate, wire
from fedpm_jax.protocol.foresight import Foresight
from fedpm_jax.protocol.method import Method


class Memory(NamedTuple):
  """All that a client keeps of the protocol between rounds; it may be lost.

  Who has lost it gets the whole payload, which is longer.

  Attributes:
    round_idx: the round that started from this theta; -1 before the first one.
    q: uint16 `[d]`, that theta.
  """

  round_idx: int
  q: np.ndarray


class ForgottenError(codecs.WireError):
  """The message is for a client that holds the last theta, and this one does not.

  It must ask for the whole payload.
  """


class Work(NamedTuple):
  """What one client, or each of a cohort, trains on in a round.

  Attributes:
    indices: int32 `[S, B]`, examples in the order of the steps.
    valid: bool `[S, B]`, False on padding.
    step_keys: uint32 `[S, 4]`, words of a key for each local step.
    uplink_key: uint32 `[4]`, of the key that the compressor gets.
  """

  indices: np.ndarray | jax.Array
  valid: np.ndarray | jax.Array
  step_keys: np.ndarray | jax.Array
  uplink_key: np.ndarray | jax.Array


class Shared(NamedTuple):
  """What all clients of a device train with.

  Attributes:
    payload: `[d]`, what they were sent.
    received: what the algorithm makes of it.
    images: `[N, H, W, C]`, the training set that indices point into.
    labels: int32 `[N]`.
    rate: float32, the factor of this round on the optimiser's steps; None where
      it is always 1.
  """

  payload: jax.Array
  received: chex.ArrayTree
  images: jax.Array
  labels: jax.Array
  rate: jax.Array | None = None


class Trained(NamedTuple):
  """What training leaves behind.

  Attributes:
    symbols: `[n]` or, bits, packed uint8 `[ceil(n / 8)]`.
    client: the client's new state.
    sums: of loss and hits.
  """

  symbols: jax.Array
  client: chex.ArrayTree
  sums: local.Sums


def work(
  seed: int,
  ids: int | np.ndarray,
  round_idx: int,
  *,
  indices: np.ndarray,
  valid: np.ndarray,
) -> Work:
  """Examples with their keys, which follow from (seed, round, client).

  Args:
    seed: the experiment's.
    ids: int `[...]`, one client or a cohort.
    round_idx: 0-based.
    indices: int32 `[..., S, B]`.
    valid: bool `[..., S, B]`.
  """
  key = functools.partial(keys.words, seed, round_idx=round_idx, client=ids)
  step_keys = threefry.fold_in(
    key(purpose=keys.Purpose.LOCAL)[..., None, :], np.arange(valid.shape[-2])
  )
  uplink_key = key(purpose=keys.Purpose.UPLINK)
  return Work(indices, valid, step_keys, uplink_key)


def train(
  method: Method, work: Work, client_state: chex.ArrayTree, shared: Shared
) -> Trained:
  """Local steps and compression of ONE client; pure, vectorised outside.

  Args:
    method: static.
    work: the client's.
    client_state: what the algorithm keeps of it; often nothing.
    shared: see `Shared`.
  """
  update, client_state, sums = method.algorithm.client_update(
    shared.received,
    local.ClientBatches(
      shared.images,
      shared.labels,
      jnp.asarray(work.indices),
      jnp.asarray(work.valid),
      shared.rate,
    ),
    client_state,
    keys.wrap(work.step_keys),
  )
  symbols = method.compressor.compress(
    keys.wrap(work.uplink_key), update, shared.payload
  )
  if method.symbols_are_bits:
    symbols = jnp.packbits(symbols)
  return Trained(symbols, client_state, sums)


class Client:
  """One client or, in a simulation, every one of them: nothing is kept here."""

  def __init__(
    self, method: Method, *, seed: int, foresight: Foresight | None = None
  ):
    """Compiles nothing yet.

    Args:
      method: see `Method`.
      seed: the experiment's.
      foresight: of the same method and seed, where there is one already.
    """
    self._method = method
    self._seed = seed
    self._foresight = foresight or Foresight(
      method, seed=seed, aggregation=aggregate.make(method)
    )
    options = method.network.compiler_options
    self._receive = jax.jit(method.algorithm.receive, compiler_options=options)
    self._train = jax.jit(
      functools.partial(train, method), compiler_options=options
    )

  def first_memory(self) -> Memory | None:
    """What a client holds before the first round: theta follows from the seed."""
    if not self._method.clients_remember:
      return None
    key = keys.derive(self._seed, keys.Purpose.SCORES)
    state, _ = jax.jit(self._method.algorithm.init)(key)
    return Memory(-1, np.array(self._method.algorithm.broadcast(state)))

  def open(
    self,
    message: bytes | memoryview,
    memory: Memory | None,
    *,
    round_idx: int,
    counted: np.ndarray,
    expected: codecs.base.Expected | None = None,
  ) -> tuple[np.ndarray, Memory | None]:
    """The payload of a broadcast, and what to remember.

    Args:
      message: the bytes received; they may be anything.
      memory: of this client; None where it was lost.
      round_idx: 0-based.
      counted: int `[K]`, whose updates the last round added up.
      expected: of the payload; worked out from the memory where it is None.

    Raises:
      ForgottenError: the message is for a client that remembers.
      WireError: it is not the message that is due.
    """
    codec = codecs.CODECS[self._codec_of(message)]
    if 'expected' in codec.needs and expected is None:
      if memory is None or memory.round_idx != round_idx - 1:
        held = 'none' if memory is None else f'that of round {memory.round_idx}'
        raise ForgottenError(
          f'broadcast of round {round_idx}: it needs the theta of round'
          f' {round_idx - 1}, got {held}. Ask for the whole one.'
        )
      expected = self._foresight.expected(memory.q, counted, round_idx)
    payload = wire.decode(
      message,
      addresses.downlink_side(self._method, codec.name, expected),
      **addresses.downlink(self._method, codec.name, round_idx),
    )
    if not self._method.clients_remember:
      return payload, None
    return payload, Memory(round_idx, payload)

  def train(
    self,
    payload: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    client_state: chex.ArrayTree,
    *,
    client: int,
    round_idx: int,
    indices: np.ndarray,
    valid: np.ndarray,
    rate: float | None = None,
  ) -> Trained:
    """Local steps from a payload; see the function `train`.

    Args:
      payload: `[d]`, of `open`.
      images: `[N, H, W, C]`, the client's own, or all of a simulation.
      labels: int32 `[N]`.
      client_state: what the algorithm keeps; of `algorithm.init` at first.
      client: its id.
      round_idx: 0-based.
      indices: int32 `[S, B]` into the images.
      valid: bool `[S, B]`.
      rate: see `Shared`.
    """
    shared = Shared(
      jnp.asarray(payload),
      self._receive(payload),
      jnp.asarray(images),
      jnp.asarray(labels),
      None if rate is None else jnp.float32(rate),
    )
    own = work(self._seed, client, round_idx, indices=indices, valid=valid)
    return self._train(own, client_state, shared)

  def seal(
    self,
    symbols: np.ndarray,
    payload: np.ndarray,
    *,
    client: int,
    round_idx: int,
    guess: codecs.base.Guess | None = None,
  ) -> memoryview:
    """The message of a client's symbols.

    Args:
      symbols: `[n]` or, bits, packed uint8 `[ceil(n / 8)]`.
      payload: what the round started from, `[d]`.
      client: its id.
      round_idx: 0-based.
      guess: of the mask, which both ends have; worked out where it is None.
    """
    method = self._method
    if method.symbols_are_bits:
      count = sum(method.compressor.sizes)
      symbols = np.unpackbits(symbols, count=count).view(np.bool_)
    if guess is None and method.dithers_are_shared:
      (guess,) = self._foresight.guesses(payload, np.array([client]), round_idx)
    return wire.encode(
      symbols,
      addresses.uplink_side(method, payload, guess),
      **addresses.uplink(method, round_idx, client),
    )

  def _codec_of(self, message: bytes | memoryview) -> str:
    """The codec that a broadcast names, if it may come in this method."""
    name = wire.peek(message).codec
    downlink = self._method.downlink
    known = (downlink, codecs.CODECS[downlink].fallback)
    if not name or name not in known:
      raise codecs.WireError(f'codec: got {name!r}, expected one of {known}.')
    return name
