"""How long runs of a sweep take, from the rounds that its folder has measured.

A run is compared with those that have the same configuration but the seed and
the number of rounds.  Where there are none, nothing is known, and nothing is
guessed.
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from fedpm_jax.reports import records
from fedpm_jax.system import reading, text

_TOTAL = 'time/total_s'


class Left(NamedTuple):
  """What some runs will take.

  Attributes:
    seconds: of those that are known, one after the other.
    longest: of them.
    unknown: how many runs are not known.
  """

  seconds: float
  longest: float
  unknown: int

  def text(self, jobs: int) -> str:
    """In words, with so many processes side by side."""
    known = text.duration(max(self.longest, self.seconds / max(jobs, 1)))
    if not self.unknown:
      return f'about {known}'
    if not self.seconds:
      return 'unknown'
    return f'about {known}, and {self.unknown} of unknown time'


class Times:
  """Seconds until the first row, and of each later round, by configuration."""

  def __init__(self):
    """Knows nothing yet."""
    self._found: dict[str, list[tuple[float, float]]] = {}

  def add(self, folder: pathlib.Path) -> None:
    """Learns from a run's rows; from damaged, or fewer than two, nothing."""
    try:
      config = reading.read_json(folder / 'config.json', dict)
      rows = records.read_rows(folder / 'metrics.jsonl')
    except (OSError, ValueError):
      return
    seconds = [row[_TOTAL] for row in rows if row.get(_TOTAL) is not None]
    if len(seconds) < max(2, len(rows)):
      return
    each = (seconds[-1] - seconds[0]) / (len(seconds) - 1)
    self._found.setdefault(_key(config), []).append((seconds[0], each))

  def seconds(self, config: dict[str, Any] | None, rounds: int) -> float | None:
    """What rounds of a configuration take; None where nothing is known.

    Args:
      config: as `build.describe` made it; None: it is not known itself.
      rounds: that are left; the first of them compiles.
    """
    found = self._found.get(_key(config)) if config else None
    if not found:
      return None
    first, each = (
      sum(values) / len(found) for values in zip(*found, strict=True)
    )
    return first + each * max(rounds - 1, 0)

  def left(self, runs: Iterable[tuple[dict[str, Any] | None, int]]) -> Left:
    """What runs take together: their configurations and the rounds left."""
    each = [self.seconds(config, rounds) for config, rounds in runs]
    known = [seconds for seconds in each if seconds is not None]
    return Left(sum(known), max(known, default=0.0), len(each) - len(known))


def _key(config: dict[str, Any]) -> str:
  plain = {k: v for k, v in config.items() if k not in ('seed', 'rounds')}
  return json.dumps(plain, sort_keys=True)
