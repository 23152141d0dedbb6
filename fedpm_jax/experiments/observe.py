"""Looks at a run from time to time, for its pictures; see `reports.history`."""

import pathlib
from typing import Any

import numpy as np

from fedpm_jax.data import partition
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.reports import codec_costs, history, label_counts
from fedpm_jax.simulation.rounds import Kept


class Observer:
  """Keeps the history.json of one run; changes nothing of the run."""

  def __init__(self, run: Experiment, workdir: pathlib.Path):
    """Writes the file, of a run that begins or goes on.

    Args:
      run: where it goes on from.
      workdir: of the run.
    """
    self._run = run
    counts = partition.label_counts(
      run.client_examples, run.dataset.y_train, run.dataset.num_classes
    )
    self._recorder = history.Recorder(
      workdir / history.NAME, run.next_round, label_counts.digest(counts)
    )
    layers = None if run.next_round else self._layers()
    self._recorder.add(run.next_round, layers, None)

  def look(self, kept: Kept | None) -> None:
    """After every round, before its checkpoint.

    Args:
      kept: the masks of the round, if they were kept.
    """
    done = self._run.next_round
    is_due = history.is_due(done) or done == self._run.num_rounds
    layers = self._layers() if is_due else None
    bits = None if kept is None else self._bits(kept)
    if layers is not None or bits is not None:
      self._recorder.add(done, layers, bits)

  def _layers(self) -> dict[str, list[int]] | None:
    """How theta is spread; None where the method has none."""
    try:
      theta = self._run.theta()
    except ValueError:  # It trains weights.
      return None
    return history.by_layer(theta)

  def _bits(self, kept: Kept) -> dict[str, Any]:
    """What each tensor takes of a message, by the codecs' own models."""
    layout = self._run.engine.method.network.layout
    uplink, downlink = codec_costs.by_tensor(
      kept, self._run.engine.server.foresight, self._run.engine.method
    )
    as_list = lambda bits: None if bits is None else np.asarray(bits).tolist()
    return {
      'rounds_done': kept.round_idx + 1,
      'tensors': list(layout.names),
      'sizes': list(layout.sizes),
      'uplink': as_list(uplink),
      'downlink': as_list(downlink),
    }
