"""The metrics of a round, from what was really sent.

Measured and estimated quantities have different names, see `reports.records`.
"""

import time
from typing import Any

import numpy as np

from fedpm_jax.algorithms import local
from fedpm_jax.simulation.link import Received, Sent


class Clock:
  """Wall time of a round and of its training."""

  def __init__(self):
    """Starts the round."""
    self._start = self._training_from = self._trained_by = time.perf_counter()

  def training_starts(self) -> None:
    """The cohort's training is next."""
    self._training_from = self._trained_by = time.perf_counter()

  def turn_is_trained(self) -> None:
    """A turn's symbols are on the host."""
    self._trained_by = time.perf_counter()

  def times(self) -> dict[str, float]:
    """Seconds until now."""
    return {
      'time/round_s': time.perf_counter() - self._start,
      'time/clients_s': self._trained_by - self._training_from,
    }


def metrics(
  round_idx: int,
  *,
  size: int,
  sums: list[local.Sums],
  sent: Sent,
  received: list[Received],
  info: dict[str, Any],
  clock: Clock,
  left_out: int | None = None,
) -> dict[str, float]:
  """The metrics of a round, named as in `reports.records.UNITS`.

  Args:
    round_idx: 0-based.
    size: d.
    sums: of each turn's clients, idle ones at the end included.
    sent: the broadcast.
    received: the messages of the K clients, or of those that have answered.
    info: what the server reports.
    clock: of the round.
    left_out: how many of the K masks were too far from theta to count; None
      where no bound is set.
  """
  count = len(received)
  loss, correct, examples = (
    np.concatenate(parts)[:count].sum() for parts in zip(*sums, strict=True)
  )
  downlink = sum(sent.num_bytes)
  uplink = sum(message.num_bytes for message in received)
  found = {
    'round_idx': round_idx,
    'train/loss': float(loss / examples),
    'train/accuracy': float(correct / examples),
    'uplink/bytes': uplink,
    'uplink/bpp_wire': 8 * uplink / (count * size),
    'downlink/bytes': downlink,
    # In a federation some clients get the broadcast and do not answer.
    'downlink/bpp_wire': 8 * downlink / (len(sent.num_bytes) * size),
  }
  densities = [m.density for m in received if m.density is not None]
  if densities:
    estimates = [estimated_bpp(density, size) for density in densities]
    found['uplink/bpp_entropy'] = float(np.mean(estimates))
    found['mask/density'] = float(np.mean(densities))
  found |= {f'server/{name}': float(x) for name, x in info.items()}
  if left_out is not None:
    found['robust/left_out'] = left_out
  found |= clock.times()
  coding = sum(message.seconds for message in received)
  found['time/wire_s'] = sent.seconds + coding
  return found


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
