"""FedPM as a Flower Strategy, for a ServerApp of one's own.

    strategy = FedPM(fp.config('digits'), 'runs/mine', min_answers=3)
    strategy.start(grid)

`start` is a loop of our own, because Flower's has no first round to start at.
It goes on from the last checkpoint, sends the whole theta to whoever asks for
it, and writes the files of a run.
"""

import functools
import pathlib
from collections.abc import Iterable
from typing import Any

from flwr.app import (
  Array,
  ArrayRecord,
  ConfigRecord,
  Message,
  MetricRecord,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from fedpm_jax.experiments import run
from fedpm_jax.experiments.config import Config
from fedpm_jax.federation.federated import Federated
from fedpm_jax.reports import records


class FedPM(Strategy):
  """A run of fedpm_jax as a Strategy; masks travel as this package codes them.

  Flower's own `Strategy.start` works with it too: pass an empty ArrayRecord.  It
  starts at the first round, and leaves out of a round who has lost its memory.
  """

  def __init__(
    self,
    config: Config,
    workdir: pathlib.Path | str,
    *,
    min_answers: int = 1,
    timeout: float = 600.0,
    join_timeout: float = 60.0,
    **parts: Any,
  ):
    """Builds nothing before it has a grid.

    Args:
      config: of `fedpm_jax.config`, changed at will.
      workdir: where the server writes; a second start goes on from there.
      min_answers: a round waits until so many clients have answered.
      timeout: seconds; then a round goes on without the others.
      join_timeout: seconds that a round waits for clients without a node.
      **parts: as of `Experiment`.
    """
    self._config, self._workdir, self._parts = config, workdir, parts
    self._make = functools.partial(
      Federated,
      min_answers=min_answers,
      timeout=timeout,
      join_timeout=join_timeout,
    )
    self._run: Federated | None = None

  def summary(self) -> None:
    """Says in a line what runs."""
    print(
      f'FedPM: {self._config.rounds} rounds, {self._config.clients_per_round} of'
      f' {self._config.num_clients} clients each, files in {self._workdir}.'
    )

  def start(  # type: ignore[override]
    self, grid: Grid, **ignored: Any
  ) -> Result:
    """Runs, or continues, the federation; writes what a simulation writes.

    Args:
      grid: Flower's.
      **ignored: what Flower's `Strategy.start` takes besides.

    Returns:
      The metrics of each round, from 1 on.

    Raises:
      ValueError: as `fedpm_jax.train`.
    """
    del ignored
    self.summary()
    run.train(
      self._config,
      self._workdir,
      verbose=True,
      experiment=functools.partial(self._make, grid=grid),
      **self._parts,
    )
    result = Result()
    for row in records.read_rows(pathlib.Path(self._workdir) / 'metrics.jsonl'):
      number = row['round_idx'] + 1
      result.train_metrics_clientapp[number] = _record(row, evaluation=False)
      result.evaluate_metrics_serverapp[number] = _record(row, evaluation=True)
    return result

  def configure_train(
    self,
    server_round: int,
    arrays: ArrayRecord,
    config: ConfigRecord,
    grid: Grid,
  ) -> Iterable[Message]:
    """The messages of a round; what Flower hands over is not used."""
    del server_round, arrays, config
    if self._run is None:
      self._run = self._make(self._config, grid=grid, **self._parts)
    return self._run.begin_round()

  def aggregate_train(
    self, server_round: int, replies: Iterable[Message]
  ) -> tuple[ArrayRecord | None, MetricRecord | None]:
    """The server's update, and the round's metrics.

    The arrays are those of the mean network: weights * theta, a tensor each.
    """
    del server_round
    assert self._run is not None, 'configure_train comes first'
    done = self._run.end_round(replies)
    if done is None:
      return None, None
    arrays = {k: Array(v) for k, v in self._run.mean_parameters().items()}
    return ArrayRecord(arrays), _record(done.metrics, evaluation=False)

  def configure_evaluate(
    self,
    server_round: int,
    arrays: ArrayRecord,
    config: ConfigRecord,
    grid: Grid,
  ) -> Iterable[Message]:
    """Nobody is asked: the server has a test set."""
    del server_round, arrays, config, grid
    return ()

  def aggregate_evaluate(
    self, server_round: int, replies: Iterable[Message]
  ) -> MetricRecord | None:
    """Accuracy and loss on the server's test set."""
    del server_round, replies
    assert self._run is not None, 'configure_train comes first'
    return _record(self._run.evaluate(), evaluation=True)


def _record(row: dict[str, Any], *, evaluation: bool) -> MetricRecord:
  """The numbers of a row that are of the evaluation, or those that are not."""
  return MetricRecord(
    {
      name: value
      for name, value in row.items()
      if name.startswith('eval/') == evaluation
      and isinstance(value, int | float)
    }
  )
