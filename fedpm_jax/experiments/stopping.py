"""When a run has come to its end before its last round: `config.stopping`.

What is decided follows from the rows alone, so that a run that was killed ends
in the same round.
"""

from collections.abc import Sequence
from typing import Any

from fedpm_jax.experiments.config import Config
from fedpm_jax.reports.records import ACCURACY


def check(config: Config) -> None:
  """Raises ValueError for an accuracy that no run can come to."""
  if config.stopping.accuracy > 1:
    raise ValueError(
      'config.stopping.accuracy must lie in [0, 1], got'
      f' {config.stopping.accuracy}.'
    )


def reason(rows: Sequence[dict[str, Any]], config: Config) -> str | None:
  """Why the run ends after these rows, before its last round; else None.

  It ends after rounds that were evaluated only; others count for nothing.

  Args:
    rows: of all rounds until now.
    config: of the run.
  """
  patience, target = config.stopping.patience, config.stopping.accuracy
  if not rows or len(rows) >= config.rounds or ACCURACY not in rows[-1]:
    return None
  evaluated = [row for row in rows if ACCURACY in row]
  found = [row[ACCURACY] for row in evaluated]
  if target and found[-1] >= target:
    return (
      f'accuracy_mean is {found[-1]:.4f}, and stopping.accuracy = {target:g}'
    )
  best = found.index(max(found))  # the first of several
  if patience and len(found) - 1 - best >= patience:
    return (
      f'no accuracy_mean above the {found[best]:.4f} of round'
      f' {evaluated[best]["round_idx"] + 1} since, and stopping.patience ='
      f' {patience} evaluations'
    )
  return None
