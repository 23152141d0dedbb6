"""From a sweep's runs to the numbers of tables: what a method costs and gives.

Every number is measured: at rounds that were run, on messages that were sent.
Nothing is interpolated, and a run that is missing is told of.
"""

from typing import Any

import numpy as np

from fedpm_jax.reports import sweep_runs
from fedpm_jax.reports.records import ACCURACY
from fedpm_jax.reports.sweep_runs import Group, Run

_SAMPLED = 'eval/accuracy_sampled'
_THRESHOLD = 'eval/accuracy_threshold'
_WAYS = ('uplink', 'downlink')
_ACCURACIES = {  # columns of comparison.csv
  'accuracy_mean_network': ACCURACY,
  'accuracy_sampled': _SAMPLED,
  'accuracy_threshold': _THRESHOLD,
  'client_accuracy_mean': 'eval/client_accuracy_mean',
  'client_accuracy_worst_tenth': 'eval/client_accuracy_worst_tenth',
}
_CURVES = {  # columns of curves.csv
  'round_idx': 'round_idx',
  'accuracy_mean_network': ACCURACY,
  'accuracy_sampled': _SAMPLED,
  'accuracy_threshold': _THRESHOLD,
  'uplink_bytes': 'uplink/bytes',
  'downlink_bytes': 'downlink/bytes',
  'uplink_bpp_wire': 'uplink/bpp_wire',
  'downlink_bpp_wire': 'downlink/bpp_wire',
  'loss': 'train/loss',
}


def sent(run: Run, ways: tuple[str, ...] = _WAYS) -> np.ndarray:
  """Bytes sent so far after every round, of all clients: int `[rounds]`."""
  return np.cumsum([sum(row[f'{w}/bytes'] for w in ways) for row in run.rows])


def table(
  groups: list[Group], targets: dict[str, float] | None = None
) -> list[dict[str, Any]]:
  """A row a group; all numbers are means over the seeds.

  Args:
    groups: of `sweep_runs.read`.
    targets: the accuracy of the mean network, for every data set that has one,
      up to which bytes and rounds are counted.

  Returns:
    Rows with the same columns; None where there is no number: one seed has no
    standard deviation, weights no sampled mask, and bytes to a target that some
    seeds miss no mean.

  Raises:
    ValueError: a target is of data that no run has.
  """
  targets = targets or {}
  known = {group.labels['data'] for group in groups}
  if unknown := set(targets) - known:
    raise ValueError(
      f'--target names data of the sweep, one of {sorted(known)}, got'
      f' {sorted(unknown)}.'
    )
  return [row(group, targets.get(group.labels['data'])) for group in groups]


def row(group: Group, target: float | None = None) -> dict[str, Any]:
  """One row of `table`."""
  runs = group.runs
  models = [run.summary['model'] for run in runs if run.summary]
  found = {
    **group.labels,
    'seed_count': len(runs),
    'missing_runs': len(group.missing),
    'rounds': len(runs[0].rows) if runs else None,
    'num_parameters': models[0]['num_parameters'] if runs else None,
  }
  for column, name in _ACCURACIES.items():
    values = [run.rows[-1].get(name) for run in runs]
    found[column], found[f'{column}_std'] = _mean(values), _std(values)
  for way in _WAYS:
    rates = [[r[f'{way}/bpp_wire'] for r in run.rows] for run in runs]
    found[f'{way}_bpp_wire'] = _mean([np.mean(rate) for rate in rates])
    last = [np.mean(rate[-10:]) for rate in rates]
    found[f'{way}_bpp_wire_last10'] = _mean(last)
  for way, column in (('uplink', 'up'), ('downlink', 'down')):
    found[f'megabytes_{column}'] = _mean(
      [sent(r, (way,))[-1] / 1e6 for r in runs]
    )
  reached = [_first(run, target) for run in runs]
  pairs = list(zip(runs, reached, strict=True))
  found |= {
    'target': target,
    'seeds_at_target': None
    if target is None
    else sum(i is not None for i in reached),
    **{
      column: _mean(
        [None if i is None else sent(run, ways)[i] / 1e6 for run, i in pairs]
      )
      for column, ways in (
        ('megabytes_to_target', _WAYS),
        ('megabytes_up_to_target', ('uplink',)),
      )
    },
    'rounds_to_target': _mean([None if i is None else i + 1 for i in reached]),
    'model_bytes': _mean([model['bytes'] for model in models]),
    'model_bpp': _mean([model['bpp'] for model in models]),
    'runs': ';'.join(run.path for run in runs),
  }
  return found


def _first(run, target) -> int | None:
  """The first evaluated row that reaches the target."""
  evaluated = sweep_runs.evaluated(run)
  rows = [i for i, x in evaluated if target is not None and x >= target]
  return rows[0] if rows else None


def _mean(values) -> float | None:
  """None where a value is missing: no mean of those that happen to be there."""
  return None if not values or None in values else float(np.mean(values))


def _std(values) -> float | None:
  """The sample's, n - 1."""
  if len(values) < 2 or None in values:
    return None
  return float(np.std(values, ddof=1))


def curves(groups: list[Group]) -> list[dict[str, Any]]:
  """A row for every round of every finished run."""
  return [
    {**run.labels, **{k: row.get(name) for k, name in _CURVES.items()}}
    for group in groups
    for run in group.runs
    for row in run.rows
  ]
