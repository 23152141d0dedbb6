"""Folders as a sweep leaves them, with made-up numbers."""

import json
import pathlib

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
  rows = []
  for i, accuracy in enumerate(accuracies):
    row = {'round_idx': i, 'train/loss': 2.0 / (i + 1)}
    for way, sizes in (('uplink', uplink), ('downlink', downlink)):
      row[f'{way}/bytes'] = sizes[i]
      row[f'{way}/bpp_wire'] = 8 * sizes[i] / (num_parameters * clients)
    if accuracy is not None:
      row['eval/accuracy_mean'] = accuracy
      if sampled:
        row['eval/accuracy_sampled'] = accuracy - 0.01
        row['eval/accuracy_threshold'] = accuracy - 0.02
    rows.append(row)
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  files.write_bytes(folder / 'metrics.jsonl', text.encode())
  if finished:
    size = num_parameters // 8 if sampled else 4 * num_parameters
    model = {
      'num_parameters': num_parameters,
      'bytes': size,
      'bpp': 8 * size / num_parameters,
    }
    if sampled:
      model['density'] = 0.5
      model['density_per_tensor'] = {
        'conv_0/kernel': 0.45 + 0.01 * int(seed),
        'conv_1/kernel': 0.5,
        'dense/kernel': 0.3 + 0.1 * int(seed),
      }
    files.write_json(folder / 'summary.json', {'model': model})
  return folder
