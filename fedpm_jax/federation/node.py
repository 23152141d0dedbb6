"""A client: its examples, what it remembers, its answer to a round.

Nothing here knows Flower.  A node holds the client's half of the protocol and
the data; what it keeps between rounds, `Kept`, is handed in and out.  It may be
lost: then the client asks for the whole theta.
"""

import os
import pathlib
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from fedpm_jax import codecs
from fedpm_jax.data import batches, checks, partition
from fedpm_jax.data.sources import Dataset
from fedpm_jax.experiments import build
from fedpm_jax.experiments.config import Config
from fedpm_jax.federation import agreement, envelope
from fedpm_jax.federation.envelope import Answer, Ask
from fedpm_jax.models import network as networks
from fedpm_jax.protocol import client as clients
from fedpm_jax.protocol.client import Client, ForgottenError, Memory
from fedpm_jax.system import machine

_ARRAYS = ('images', 'labels')  # of a client's own file


class Kept(NamedTuple):
  """What a client keeps between rounds.

  Attributes:
    memory: the last theta; None where the method does not ask, or it was lost.
    state: what the algorithm keeps of the client.
    sent: the last round that it has answered and its answer, where its random
      numbers are its own; else None.
  """

  memory: Memory | None
  state: chex.ArrayTree
  sent: tuple[int, Answer] | None = None


class Node:
  """The functions of one client; keeps nothing of a round."""

  def __init__(
    self,
    config: Config,
    client: int,
    *,
    own: Dataset | None = None,
    **parts: Any,
  ):
    """Reads the data and checks everything; trains nothing yet.

    Args:
      config: of the experiment.
      client: the id, in [0, M).
      own: the examples of this client alone; None takes its part of the data
        set that the configuration names, as a simulation would.
      **parts: as of `Experiment`.

    Raises:
      ValueError: the configuration makes no sense, or the data do not fit.
    """
    machine.start_jax()
    if not 0 <= client < config.num_clients:
      raise ValueError(
        f'A client id must lie in [0, config.num_clients = {config.num_clients}'
        f'), got {client}.'
      )
    given = build.Parts(**parts)
    build.check(config, given)
    self._config, self._client = config, client
    self._own = own is not None
    data = build.dataset(config, given) if own is None else own
    spec = build.spec(config, data, given)
    network = networks.build(
      spec,
      module=given.model,
      lowering=config.execution.lowering,
      dtype=config.execution.dtype,
    )
    self._method = build.method(config, network, given)
    agreement.check_private(self._method, config)
    self._agreement = agreement.of(
      build.describe(config, given, data), spec, network
    )
    self._step_factor = build.step_factor(config)
    everything = np.arange(len(data.y_train), dtype=np.int32)
    if self._own:  # The others' examples are elsewhere.
      self._examples = [everything[:0]] * client + [everything]
    else:
      self._examples = list(build.clients(config, data.y_train, given))
    if self._own and config.aggregation.weights != 'equal':
      raise ValueError(
        f'config.aggregation.weights = {config.aggregation.weights!r} needs to'
        ' know how many examples every client holds, and of clients with data of'
        " their own nobody does: use 'equal'."
      )
    self._halves = Client(
      self._method,
      seed=config.seed,
      weights=partition.weights(config.aggregation.weights, self._examples),
    )
    # Its own examples alone: with Flower's engine, a process has many nodes.
    rows = self._examples[client]
    self._examples[client] = everything[: len(rows)]
    self._images, self._labels = jax.device_put(
      (data.x_train[rows], data.y_train[rows])
    )

  def first(self) -> Kept:
    """What a client has that has never taken part."""
    return Kept(self._halves.first_memory(), self._halves.first_state())

  def answer(self, ask: Ask, kept: Kept) -> tuple[Answer, Kept]:
    """The answer to a round, and what is kept then.

    Raises:
      WireError: the broadcast is not the message that is due.
      FloatingPointError: the training diverged.
    """
    if not self._agrees(ask):
      other = self._agreement.to_json()
      return Answer(self._client, envelope.OTHER, agreement=other), kept
    if not ask.message:
      return Answer(self._client, envelope.HERE), kept
    if ask.client != self._client:
      raise codecs.WireError(
        f'client: got {ask.client}, expected {self._client}.'
      )
    t, private = ask.round_idx, self._config.wire.private_randomness
    if kept.sent and t <= kept.sent[0]:
      return _again(kept.sent, t), kept
    try:
      payload, memory = self._halves.open(
        ask.message, kept.memory, round_idx=t, last_ids=ask.last_ids
      )
    except ForgottenError:
      return Answer(self._client, envelope.FORGOTTEN), kept
    trained = self._halves.train(
      payload,
      self._images,
      self._labels,
      kept.state,
      work=self._work(t),
      step_factor=self._step_factor(t) if self._step_factor else None,
    )
    sums = [float(x) for x in jax.device_get(trained.sums)]
    if not np.isfinite(sums).all():
      raise FloatingPointError(
        f'Round {t + 1}: the training of client {self._client} diverged. Lower'
        ' config.optimizer.learning_rate.'
      )
    message = self._halves.seal(
      np.asarray(trained.symbols), payload, client=self._client, round_idx=t
    )
    reply = Answer(
      self._client,
      envelope.UPDATE,
      bytes(message),
      (sums[0], sums[1], sums[2]),
    )
    sent = (t, reply) if private else None
    return reply, Kept(memory, trained.client_state, sent)

  def _agrees(self, ask: Ask) -> bool:
    """Whether the server has the same agreement."""
    terms, split = self._agreement.hashes
    return ask.terms == terms and (self._own or ask.split == split)

  def _work(self, round_idx: int) -> clients.Work:
    """This round's examples and keys, the client's alone where it must be."""
    config, private = self._config, self._config.wire.private_randomness
    # NumPy takes a seed of any length.
    seed = int.from_bytes(os.urandom(16)) if private else config.seed
    plan = batches.plan(
      self._examples,
      np.array([self._client]),
      seed=seed,
      round_idx=round_idx,
      epochs=config.local_epochs,
      batch_size=config.batch_size,
    )
    (indices,), (valid,) = plan
    if private:
      return clients.private_work(indices=indices, valid=valid)
    return clients.work(
      config.seed, self._client, round_idx, indices=indices, valid=valid
    )


def _again(sent: tuple[int, Answer], round_idx: int) -> Answer:
  """The answer that was sent.

  A new one would have other flips, and tell the server more of the same mask
  than the account of privacy counts.

  Raises:
    WireError: the round is older than that answer.
  """
  last, answer = sent
  if round_idx < last:
    raise codecs.WireError(
      f'round: got {round_idx}, expected {last} or a later one. With'
      ' wire.private_randomness a client answers a round once.'
    )
  return answer


def own_data(path: pathlib.Path | str, num_classes: int) -> Dataset:
  """A client's own examples, which stay where they are.

  Args:
    path: an .npz file with `images`, uint8 `[n, H, W, C]` or what else the
      server's data set holds without a range, and `labels`, integer `[n]` in
      [0, num_classes).
    num_classes: of the whole federation.

  Raises:
    ValueError: there is no such file, or it does not hold that.
  """
  path = pathlib.Path(path).expanduser()
  try:
    with np.load(path, allow_pickle=False) as file:
      images, labels = (file[name] for name in _ARRAYS)
  except FileNotFoundError as error:
    raise ValueError(f'There is no file {path}: see --node-config.') from error
  # The type depends on what is wrong with the file: it may be anything.
  except Exception as error:
    raise ValueError(
      f'{path} must be an .npz file with the arrays {_ARRAYS}: {error}.'
    ) from error
  data = Dataset(path.stem, images, labels, images, labels, num_classes)
  try:
    return checks.checked(data)
  except ValueError as error:
    # The checks call them x_train and y_train.
    said = str(error).replace('x_train', 'images').replace('y_train', 'labels')
    raise ValueError(f'{path}: {said}') from error
