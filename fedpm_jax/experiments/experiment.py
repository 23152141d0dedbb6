"""An experiment: a configuration made to run, one round at a time.

    run = Experiment(config)
    for row in run.rounds():
      print(row['eval/accuracy_mean'], row['uplink/bpp_wire'])

Nothing is written, printed or caught here; `experiments.run.train` does that
around it.
"""

import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from fedpm_jax import masks
from fedpm_jax.algorithms.base import Algorithm
from fedpm_jax.compressors.base import Compressor
from fedpm_jax.data import batches, partition
from fedpm_jax.data.sources import Dataset
from fedpm_jax.experiments import (
  build,
  checkpoint,
  client_states,
  divergence,
  evaluation,
  memory,
  stopping,
)
from fedpm_jax.experiments.config import Config
from fedpm_jax.models import network as networks
from fedpm_jax.models import parameters
from fedpm_jax.prng import keys
from fedpm_jax.protocol import aggregate, model_file
from fedpm_jax.protocol.foresight import Foresight
from fedpm_jax.reports import codec_costs
from fedpm_jax.simulation import examples, placement, privacy
from fedpm_jax.simulation.rounds import Cohort, Engine, Kept, Round, State
from fedpm_jax.system import machine
from fedpm_jax.system.hosts import Hosts


class Experiment:
  """A run in memory: where it is, and the functions that move it on.

  Attributes:
    config: of the run.
    description: the nested dict that determines the run, as it is written.
    dataset: inputs and labels; with `config.data.validation` its test set is the
      part of the training set that is held out.
    client_examples: M arrays, the indices of the examples of each client.
    spec: what determines the random network.
    engine: runs a round.
    evaluate_every: rounds, `config.evaluation.every` or what is chosen for it.
    state: carried from round to round.
    next_round: 0-based.
    simulates: whether clients train in this program, and keep their states here.
  """

  simulates = True

  def __init__(
    self,
    config: Config,
    *,
    dataset: Dataset | None = None,
    model: nn.Module | None = None,
    algorithm: Algorithm | Callable[..., Algorithm] | None = None,
    compressor: Compressor | Callable[..., Compressor] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    clients: Sequence[np.ndarray] | None = None,
  ):
    """Reads the data, builds everything and checks it; trains nothing yet.

    On a CPU, each core becomes a JAX device, if JAX has not started before.

    Args:
      config: of `fedpm_jax.config`, changed at will.
      dataset: one's own, in place of what `config.data` names; see
        `build.Parts`, also for the others.
      model: one's own Flax module.
      algorithm: one's own.
      compressor: one's own.
      optimizer: one's own.
      clients: one's own split.

    Raises:
      ValueError: anything that makes no sense.
    """
    machine.start_jax()
    hosts = Hosts()
    with hosts.all_or_none():
      parts = build.Parts(
        dataset, model, algorithm, compressor, optimizer, clients
      )
      self._build(config, parts, hosts)
    self._state: State | None = None
    self._foreseen = None
    self._failed = False
    self.next_round = 0

  def _build(self, config: Config, parts: build.Parts, hosts: Hosts) -> None:
    """All that a configuration stands for; ValueError where it makes no sense."""
    build.check(config, parts)
    if config.clients_per_round < hosts.count:
      raise ValueError(
        f'config.clients_per_round = {config.clients_per_round} is fewer than the'
        f' {hosts.count} hosts: each of them trains one client at least.'
      )
    self.config = config.copy_and_resolve_references()
    self._module = parts.model
    self.dataset = build.dataset(config, parts)
    self.description = build.describe(config, parts, self.dataset)
    self.spec = build.spec(config, self.dataset, parts)
    network = networks.build(
      self.spec,
      module=parts.model,
      lowering=config.execution.lowering,
      dtype=config.execution.dtype,
    )
    self.client_examples = build.clients(config, self.dataset.y_train, parts)
    self._weights = partition.weights(
      config.aggregation.weights, self.client_examples
    )
    method = build.method(config, network, parts)
    if self.simulates:
      client_states.check(config, method)
    of_a_host = -(-config.clients_per_round // hosts.count)
    mesh = placement.make_mesh(of_a_host, max_devices=config.execution.devices)
    self.engine = Engine(
      method,
      seed=config.seed,
      num_clients=config.num_clients,
      inputs=self.dataset.x_train,
      labels=self.dataset.y_train,
      mesh=mesh,
      chunk=config.execution.chunk,
      step_factor=build.step_factor(config),
      most_brought=examples.most_brought(
        # A federation's server trains nobody.
        config.execution.examples if self.simulates else 'cohort',
        self.dataset.x_train,
        self.client_examples,
        mesh.size,
        config.execution.chunk,
      ),
      max_distance=config.robust.max_distance,
      weights=self._weights,
      hosts=hosts,
    )
    self._privacy = privacy.meter_of(self.engine.method.compressor)
    self.evaluate_every = evaluation.every(
      config,
      self.engine.method.algorithm,
      test_examples=len(self.dataset.y_test),
      client_examples=self.client_examples,
    )
    self._evaluation = evaluation.make(
      config, self.dataset, self.engine, self.client_examples
    )

  @property
  def state(self) -> State:
    """The state before round `next_round`.

    A round consumes it: copy, with `jax.device_get`, what is needed later.

    Raises:
      RuntimeError: the last round failed, and has consumed it.
    """
    if self._failed:
      raise RuntimeError(
        f'Round {self.next_round + 1} failed, and its state is gone:'
        ' set_state(...) goes on from another one, such as saved_state(workdir).'
      )
    if self._state is None:
      self._state = self.first_state()
    return self._state

  @property
  def keeps_masks(self) -> bool:
    """Whether `run_round` can return what the server has decoded."""
    return self.engine.method.compressor.mask_is_dithered

  @property
  def num_rounds(self) -> int:
    """`config.rounds`."""
    return self.config.rounds

  @property
  def unusual_parameters(self) -> str:
    """A line about parameters that are not kernels or biases of layers, or ''."""
    network = self.engine.method.network
    return parameters.told(network.layout, network.frozen)

  def set_state(self, state: State, next_round: int) -> None:
    """Goes on from a state, for example `*saved_state(workdir)`.

    Args:
      state: is consumed by the next round.
      next_round: 0-based.
    """
    self._state, self.next_round, self._foreseen = state, next_round, None
    self._failed = False

  def rounds(
    self, before: Sequence[dict[str, Any]] = ()
  ) -> Iterator[dict[str, Any]]:
    """Runs the rounds that are left, one whenever the next row is asked for.

    It ends earlier where `config.stopping` says so.

    Args:
      before: the rows of the rounds before, such as `saved_state(workdir).rows`:
        `config.stopping` goes by all rows.

    Yields:
      The round's metrics, named as in `reports.records.UNITS`; those of the
      test set after each `evaluate_every` rounds, and in the last round.
    """
    every, last = self.evaluate_every, self.num_rounds - 1
    rows = list(before)
    while self.next_round <= last and not stopping.reason(rows, self.config):
      done = self.run_round()
      row = dict(done.metrics)
      if checkpoint.is_due(self.next_round - 1, every=every, last=last):
        row |= self.evaluate()
      rows.append(row)
      yield row

  def run_round(self, *, keep: bool = False) -> Round:
    """One round; the state moves on.

    Args:
      keep: whether to return the masks that the server decodes.
    """
    t, state = self.next_round, self.state
    self._failed = True  # until the round is over
    try:
      with memory.explained(self.config):
        done = self.engine.run(
          state, self.cohort(t), t, foreseen=self._foreseen, keep=keep
        )
    except FloatingPointError as error:
      raise FloatingPointError(f'{error} {self._cause()}') from error
    self._state, self._foreseen = done.state, done.foreseen
    self.next_round, self._failed = t + 1, False
    return done._replace(metrics=done.metrics | self.privacy_spent(t))

  def cohort(self, round_idx: int) -> Cohort:
    """Who takes part in a round, and on which examples."""
    config, ids = self.config, self.cohort_ids(round_idx)
    plan = batches.plan(
      self.client_examples,
      ids,
      seed=config.seed,
      round_idx=round_idx,
      epochs=config.local_epochs,
      batch_size=config.batch_size,
    )
    return Cohort(ids, plan.indices, plan.valid)

  def cohort_ids(self, round_idx: int) -> np.ndarray:
    """Who takes part in a round, int32 `[K]`."""
    return keys.cohort(
      self.config.seed,
      round_idx,
      num_clients=self.config.num_clients,
      clients_per_round=self.config.clients_per_round,
    )

  def privacy_spent(self, round_idx: int) -> dict[str, float]:
    """The metrics `privacy/...` after a round; empty where no bit is flipped.

    They are of the client that was asked in most rounds until then, at one
    answer a round.
    """
    if not self._privacy:
      return {}
    ids = [self.cohort_ids(t) for t in range(round_idx + 1)]
    return self._privacy(int(np.bincount(np.concatenate(ids)).max()))

  def evaluate(self) -> dict[str, float]:
    """Accuracy and loss of the present networks on the test set."""
    before = time.perf_counter()
    with memory.explained(self.config, evaluates=True):
      with self.engine.hosts.all_or_none():
        own = self._evaluation.results(self.state.server, self.next_round - 1)
      row = self._evaluation.metrics(own)
    return row | {'time/eval_s': time.perf_counter() - before}

  def theta(self) -> dict[str, np.ndarray]:
    """The present probabilities of all mask bits, a tensor each.

    Returns:
      Such as {'conv_0/kernel': [3, 3, 1, 64], ...}, float32 in (0, 1).

    Raises:
      ValueError: the method trains no masks.
    """
    algorithm = self.engine.method.algorithm
    if algorithm.payload != 'theta' or algorithm.update == 'delta':
      raise ValueError(
        f'config.algorithm = {self.description["algorithm"]!r} trains weights'
        ' and has no theta; see mean_parameters().'
      )
    q = np.asarray(algorithm.broadcast(self.state.server))
    return self._tensors(np.asarray(masks.theta_of(jnp.asarray(q))))

  def mean_parameters(self) -> dict[str, np.ndarray]:
    """All parameters of the mean network, a tensor each.

    Of masks they are frozen weights times theta, of a dense method its weights.
    Those that are not masked have their initial values.
    """
    key = self._final_key()
    networks_ = self.engine.method.algorithm.eval_params(self.state.server, key)
    frozen = self.engine.method.network.frozen
    return self._tensors(np.asarray(networks_['mean'])) | dict(frozen)

  def model(self) -> model_file.Model:
    """The present model: one mask and a seed, or dense weights."""
    return model_file.make(
      self.spec, np.asarray(self.final_values(self.state)), self._module
    )

  def final_values(self, state: State) -> jax.Array:
    """The mask, or the weights, that a state's model file holds, `[d]`."""
    return self.engine.method.algorithm.model(state.server, self._final_key())

  def warm_up(self) -> None:
    """Compiles evaluation and export, so that they are ready later."""
    # The states of clients may be large, and nothing here needs them.
    like = self.like_state()._replace(clients=(), held=())
    blank = jax.tree.map(jnp.zeros_like, like)
    self._evaluation.results(blank.server, 0)
    model_file.fingerprint(self.spec, self.engine.method.network)
    self.final_values(blank)

  def first_state(self) -> State:
    """The state before the first round, a function of the seed."""
    return self.engine.init(with_clients=self.simulates)

  def like_state(self) -> State:
    """The structure, shapes and types of a state, without its arrays."""
    return jax.eval_shape(self.first_state)

  def saved_state(self, workdir: pathlib.Path | str) -> checkpoint.Restored:
    """State and next round of a run's latest checkpoint; for `set_state`.

    Raises:
      ValueError: there is none, or it belongs to another configuration.
    """
    restored = checkpoint.restore(
      pathlib.Path(workdir), self.like_state(), self.description
    )
    if restored is None:
      raise ValueError(f'There is no checkpoint in {workdir}.')
    return restored

  def codec_costs(self, kept: list[Kept]) -> list[dict[str, Any]]:
    """What every codec would have cost in some rounds; see `codec_costs`."""
    # Compares the best codecs, whatever the run used.
    method = self.engine.method._replace(**codec_costs.BEST)
    foresight = Foresight(
      method,
      seed=self.config.seed,
      aggregation=aggregate.make(method),
      weights=self._weights,
    )
    rows = []
    for round_ in kept:
      rows += codec_costs.costs(round_, foresight, method.network.layout)
    return rows

  def _cause(self) -> str:
    """Why training has diverged, as far as looking tells."""
    method = self.engine.method
    server, _ = self.engine.server.init()
    first = method.algorithm.eval_params(server, self._final_key())['mean']
    return divergence.cause(self.config, self.dataset, method.network, first)

  def _final_key(self) -> jax.Array:
    return model_file.final_key(self.spec.seed)

  def _tensors(self, flat: np.ndarray) -> dict[str, np.ndarray]:
    layout = self.engine.method.network.layout
    parts = masks.split(layout, flat)
    return {
      name: part.reshape(shape)
      for name, shape, part in zip(
        layout.names, layout.shapes, parts, strict=True
      )
    }
