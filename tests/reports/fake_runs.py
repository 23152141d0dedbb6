"""Folders as a sweep leaves them, with made-up numbers."""

import json
import pathlib
from typing import Any

from fedpm_jax.reports import records
from fedpm_jax.system import files


def write(
  workdir: pathlib.Path,
  labels: dict[str, str],
  accuracies: list[float | None],
  *,
  uplink: list[int],
  downlink: list[int],
  sampled: bool = True,
  num_parameters: int = 1000,
  clients: int = 2,
  finished: bool = True,
) -> pathlib.Path:
  """One run: an accuracy (None: not evaluated) and bytes for every round."""
  *rest, seed = labels.values()
  folder = workdir.joinpath(*rest, f'seed_{seed}')
  files.write_json(folder / 'labels.json', labels)
  rows = [
    row(
      i,
      accuracy,
      uplink[i],
      downlink[i],
      sampled=sampled,
      values=num_parameters * clients,
    )
    for i, accuracy in enumerate(accuracies)
  ]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  files.write_bytes(folder / 'metrics.jsonl', text.encode())
  files.write_json(folder / 'config.json', {'seed': int(seed)})
  if finished:
    summary = summary_of(rows, int(seed), num_parameters, sampled=sampled)
    files.write_json(folder / 'summary.json', summary)
  return folder


def row(
  round_idx: int,
  accuracy: float | None,
  uplink: int,
  downlink: int,
  *,
  sampled: bool = True,
  values: int = 2000,
) -> dict[str, Any]:
  """A round's metrics; `values` is the number of parameters of all clients."""
  made = {'round_idx': round_idx, 'train/loss': 2.0 / (round_idx + 1)}
  for way, size in (('uplink', uplink), ('downlink', downlink)):
    made[f'{way}/bytes'] = size
    made[f'{way}/bpp_wire'] = 8 * size / values
  made['time/round_s'] = 0.5
  if accuracy is not None:
    made['eval/accuracy_mean'] = accuracy
    made['eval/client_accuracy_mean'] = accuracy / 2
    made['eval/client_accuracy_worst_tenth'] = accuracy / 4
    if sampled:
      made['eval/accuracy_sampled'] = accuracy - 0.01
      made['eval/accuracy_threshold'] = accuracy - 0.02
  return made


def summary_of(
  rows: list[dict[str, Any]],
  seed: int,
  num_parameters: int = 1000,
  *,
  sampled: bool = True,
) -> dict[str, Any]:
  """What `summary.summarise` would say of these rows."""
  size = num_parameters // 8 if sampled else 4 * num_parameters
  model = {
    'num_parameters': num_parameters,
    'bytes': size,
    'bpp': 8 * size / num_parameters,
    'times_smaller_than_float32': 4 * num_parameters / size,
  }
  if sampled:
    model['density'] = 0.5
    model['density_per_tensor'] = {
      'conv_0/kernel': 0.45 + 0.01 * seed,
      'conv_1/kernel': 0.5,
      'dense/kernel': 0.3 + 0.1 * seed,
    }
  names = [name for name in rows[-1] if name.startswith('eval/accuracy_')]
  return {
    'last': rows[-1],
    'best': {
      name: {'value': rows[-1][name], 'round_idx': len(rows) - 1}
      for name in names
    },
    'total': {
      name: sum(row[name] for row in rows)
      for name in ('uplink/bytes', 'downlink/bytes', 'time/round_s')
    },
    'mean': {
      name: sum(row[name] for row in rows) / len(rows)
      for name in ('uplink/bpp_wire', 'downlink/bpp_wire')
    },
    'model': model,
    'rows_crc32': records.checksum(rows),
    'config': {'seed': seed},
    'versions': {'python': '3.11'},
    'device': '1 x cpu',
  }
