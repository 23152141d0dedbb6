"""Folders of single runs, with made-up numbers, for the page and the list."""

import copy
import json
import pathlib
from typing import Any

import fake_runs
import numpy as np

from fedpm_jax.reports import history, label_counts
from fedpm_jax.system import files

CONFIG: dict[str, Any] = {
  'algorithm': 'fedpm',
  'data': {'name': 'digits', 'partition': 'iid', 'validation': 0.0},
  'model': 'conv4',
  'num_clients': 10,
  'rounds': 5,
  'wire': {'uplink': 'dither'},
}
LAYERS = ('conv_0', 'dense_0')


def write(
  folder: pathlib.Path,
  *,
  seed: int = 0,
  changes: dict[str, Any] | None = None,
  rounds: int = 5,
  finished: bool = True,
  sampled: bool = True,
  with_history: bool = True,
  counts: np.ndarray | None = None,
  tensors: tuple[str, ...] = LAYERS,
) -> pathlib.Path:
  """A run as `train` leaves it."""
  config = copy.deepcopy(CONFIG) | {'seed': seed} | (changes or {})
  rows = [
    fake_runs.row(
      t,
      0.5 + 0.08 * t + 0.01 * seed,
      500 - 20 * t,
      600 - 50 * t if t else 1,
      sampled=sampled,
    )
    | ({'mask/density': 0.5 + 0.01 * t} if sampled else {})
    for t in range(rounds)
  ]
  folder.mkdir(parents=True)
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'metrics.jsonl').write_text(text, encoding='utf-8')
  files.write_json(folder / 'config.json', config)
  start = {
    'date': '2026-01-02T03:04:05+00:00',
    'command': f'python -m fedpm_jax.train --config.seed={seed}',
    'rounds_done': 0,
    'commit': 'abc123',
    'device': '1 x cpu',
  }
  line = json.dumps(start) + '\n'
  (folder / 'starts.jsonl').write_text(line, encoding='utf-8')
  if finished:
    summary = fake_runs.summary_of(rows, seed, sampled=sampled)
    files.write_json(folder / 'summary.json', summary | {'config': config})
  if with_history:
    if counts is None:
      counts = np.random.default_rng(seed).integers(1, 20, (10, 10))
    files.write_json(
      folder / history.NAME, _history(rounds, counts, tensors, sampled)
    )
  return folder


def _history(
  rounds: int, counts: np.ndarray, tensors: tuple[str, ...], sampled: bool
) -> dict[str, Any]:
  rng = np.random.default_rng(0)
  theta = [
    {
      'rounds_done': done,
      'layers': {
        name: np.bincount(
          rng.integers(0, history.BINS, 500), minlength=history.BINS
        ).tolist()
        for name in tensors
      },
    }
    for done in range(rounds + 1)
  ]
  bits = {
    'rounds_done': rounds,
    'tensors': [f'{name}/kernel' for name in tensors],
    'sizes': [500] * len(tensors),
    'uplink': [50.0 + i for i in range(len(tensors))],
    'downlink': [400.0] * len(tensors),
  }
  return {
    'labels': label_counts.digest(counts),
    'theta': theta if sampled else [],
    'bits': bits if sampled else None,
  }
