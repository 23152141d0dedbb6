"""The client's half of the protocol: open, train, seal.

    open    a broadcast's bytes, and what the client remembers -> the payload
    train   payload and examples -> symbols; pure, one jitted program
    seal    symbols -> a message's bytes

A real client calls the three in this order, once a round:

    memory, state = client.first_memory(), client.first_state()
    payload, memory = client.open(message, memory, round_idx=t, last_ids=ids)
    trained = client.train(payload, inputs, labels, state, work=work(...))
    state = trained.client_state
    message = client.seal(np.asarray(trained.symbols), payload, ...)

A simulation vectorises the function `train` over a cohort, and meters what
`open` and `seal` take and give.  Compression belongs to `train`, because it is
one program with it on the device.

Dimensions: S local steps, B batch, N examples, d parameters, n symbols.
"""

import functools
import os
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax import codecs
from fedpm_jax.algorithms import local
from fedpm_jax.prng import keys, threefry
from fedpm_jax.protocol import aggregate, headers, wire
from fedpm_jax.protocol.foresight import Foresight
from fedpm_jax.protocol.method import Method, first_states


class Memory(NamedTuple):
  """The last theta, which shortens the next broadcast; it may be lost.

  A client that has lost it gets a `ForgottenError` and asks for the whole
  payload, which is longer.  What the algorithm keeps of a client,
  `client_state`, is apart from this, and nobody can send it again.

  Attributes:
    round_idx: the round that started from this theta; -1 before the first one.
    q: uint16 `[d]`, that theta.
  """

  round_idx: int
  q: np.ndarray


class ForgottenError(codecs.WireError):
  """The message is for a client that holds the last theta; this one does not.

  Nothing is wrong with the message: the client asks for the whole payload.
  Catch this before `WireError`.
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
    inputs: `[N, ...]`, the training set that indices point into; () where each
      client brings its own examples.
    labels: int32 `[N]`, likewise.
    step_factor: float32, the factor of this round on the optimiser's steps;
      None where it is always 1.
  """

  payload: jax.Array
  received: chex.ArrayTree
  inputs: jax.Array
  labels: jax.Array
  step_factor: jax.Array | None = None


class Trained(NamedTuple):
  """What training leaves behind.

  Attributes:
    symbols: `[n]` or, bits, packed uint8 `[ceil(n / 8)]`.
    client_state: what the algorithm keeps of the client.
    sums: of loss and hits.
  """

  symbols: jax.Array
  client_state: chex.ArrayTree
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


def private_work(*, indices: np.ndarray, valid: np.ndarray) -> Work:
  """Examples with keys that nobody else can derive.

  They come from the operating system.  Only methods that
  `config.wire.private_randomness` allows can do without shared keys.

  Args:
    indices: int32 `[S, B]`, in an order that is private too.
    valid: bool `[S, B]`.
  """
  words = np.frombuffer(os.urandom(16 * (len(valid) + 1)), np.uint32)
  uplink_key, *step_keys = words.reshape(-1, 4)
  return Work(indices, valid, np.stack(step_keys), uplink_key)


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
  uplink_key = keys.wrap(work.uplink_key)
  update, client_state, sums = method.algorithm.client_update(
    shared.received,
    local.ClientBatches(
      shared.inputs,
      shared.labels,
      jnp.asarray(work.indices),
      jnp.asarray(work.valid),
      shared.step_factor,
    ),
    client_state,
    keys.wrap(work.step_keys),
    uplink_key,
  )
  symbols = method.compressor.compress(uplink_key, update, shared.payload)
  if method.symbols_are_bits:
    symbols = jnp.packbits(symbols)
  return Trained(symbols, client_state, sums)


class Client:
  """The functions of a client.  The object itself keeps nothing of a round.

  So a simulation needs only one for all of its clients.
  """

  def __init__(
    self,
    method: Method,
    *,
    seed: int,
    weights: np.ndarray | None = None,
    foresight: Foresight | None = None,
  ):
    """Compiles nothing yet.

    Args:
      method: see `Method`.
      seed: the experiment's.
      weights: int `[M]`, how much each client counts; None: all the same.
      foresight: of the same method, seed and weights, where there is one
        already.
    """
    self._method = method
    self._seed = seed
    self._foresight = foresight or Foresight(
      method,
      seed=seed,
      aggregation=aggregate.make(method),
      weights=weights,
    )
    options = method.network.compiler_options
    self._receive = jax.jit(method.algorithm.receive, compiler_options=options)
    self._train = jax.jit(
      functools.partial(train, method), compiler_options=options
    )

  def first_memory(self) -> Memory | None:
    """What a client holds before the first round, since it has the seed."""
    if not self._method.downlink_needs_memory:
      return None
    state, _ = first_states(self._method, self._seed)
    return Memory(-1, np.array(self._method.algorithm.broadcast(state)))

  def first_state(self) -> chex.ArrayTree:
    """What the algorithm keeps of a client that has never taken part."""
    return first_states(self._method, self._seed)[1]

  def open(
    self,
    message: bytes | memoryview,
    memory: Memory | None,
    *,
    round_idx: int,
    last_ids: np.ndarray,
    expected: codecs.base.Expected | None = None,
  ) -> tuple[np.ndarray, Memory | None]:
    """The payload of a broadcast, and what to remember.

    Args:
      message: the bytes received; they may be anything.
      memory: of this client; None where it was lost.
      round_idx: 0-based.
      last_ids: int `[K]`, the clients whose updates the server added up in the
        last round.
      expected: of the payload; worked out from the memory where it is None.

    Returns:
      The payload `[d]`, any theta or any finite floats: which weights clients
      start from is the server's to choose.  And the memory for the next round.

    Raises:
      ForgottenError: the message is due, but for a client that remembers.
      WireError: it is not the message that is due.
    """
    codec = codecs.CODECS[self._codec_of(message)]
    fields = headers.downlink_fields(self._method, codec.name, round_idx)
    if 'expected' in codec.needs and expected is None:
      # Junk is found first: it is no reason to ask for the whole payload, and
      # what to expect is expensive to work out.
      size = self._method.network.layout.num_parameters
      wire.check(message, size, **fields)
      if memory is None or memory.round_idx != round_idx - 1:
        held = 'none' if memory is None else f'that of round {memory.round_idx}'
        raise ForgottenError(
          f'broadcast of round {round_idx}: it needs the theta of round'
          f' {round_idx - 1}, got {held}. Ask for the whole one.'
        )
      expected = self._foresight.expected(memory.q, last_ids, round_idx)
    side = headers.downlink_side(self._method, codec.name, expected)
    payload = wire.decode(message, side, **fields)
    if not self._method.downlink_needs_memory:
      return payload, None
    return payload, Memory(round_idx, payload)

  def train(
    self,
    payload: np.ndarray,
    inputs: np.ndarray,
    labels: np.ndarray,
    client_state: chex.ArrayTree,
    *,
    work: Work,
    step_factor: float | None = None,
  ) -> Trained:
    """Local steps from a payload; see the function `train`.

    Args:
      payload: `[d]`, of `open`.
      inputs: `[N, ...]`, the client's own, or all of a simulation.
      labels: int32 `[N]`.
      client_state: what the algorithm keeps; of `first_state` at first.
      work: of `work`, or of `private_work`; its indices point into the inputs.
      step_factor: see `Shared`.
    """
    shared = Shared(
      jnp.asarray(payload),
      self._receive(payload),
      jnp.asarray(inputs),
      jnp.asarray(labels),
      None if step_factor is None else jnp.float32(step_factor),
    )
    return self._train(work, client_state, shared)

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
      headers.uplink_side(method, payload, guess),
      **headers.uplink_fields(method, round_idx, client),
    )

  def _codec_of(self, message: bytes | memoryview) -> str:
    """The codec that a broadcast names, if it may come in this method."""
    name = wire.peek(message).codec
    downlink = self._method.downlink
    known = (downlink, codecs.CODECS[downlink].fallback)
    if not name or name not in known:
      raise codecs.WireError(f'codec: got {name!r}, expected one of {known}.')
    return name
