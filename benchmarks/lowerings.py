"""Whether two lowerings train alike: curves of the same seeds, side by side.

    mkdir -p results/lowering
    for seed in 0 1 2; do for lowering in winograd im2col; do
      python -m fedpm_jax.train --config.rounds=100 --config.seed=$seed \\
        --config.optimizer.learning_rate=0.13 --config.adam.eps=1e-8 \\
        --config.execution.lowering=$lowering --workdir=runs/$lowering-$seed
      cp runs/$lowering-$seed/metrics.jsonl results/lowering/$lowering-$seed.jsonl
    done; done
    python benchmarks/lowerings.py results/lowering

Reads `<lowering>-<seed>.jsonl`, prints a table of the second half of the rounds
and draws `curves.png` beside the files.
"""

import collections
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

METRICS = {
  'eval/accuracy_mean': 'accuracy, mean network',
  'eval/accuracy_sampled': 'accuracy, sampled',
  'train/loss': 'training loss',
  'uplink/bpp_wire': 'uplink, bpp',
  'server/theta_mean': 'mean of theta',
}


def read(folder: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
  """{lowering: {metric: [seeds, rounds]}}."""
  runs = collections.defaultdict(list)
  for path in sorted(folder.glob('*-*.jsonl')):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    runs[path.stem.rpartition('-')[0]].append(rows)
  if not runs:
    sys.exit(f'error: no <lowering>-<seed>.jsonl in {folder}')
  return {
    lowering: {
      name: np.array([[row[name] for row in rows] for rows in seeds])
      for name in METRICS
    }
    for lowering, seeds in runs.items()
  }


def table(runs) -> str:
  """Means over the second half of the rounds, +- their spread over seeds."""
  lines = [f'| | {" | ".join(runs)} |', f'| --- |{" --- |" * len(runs)}']
  for name, label in METRICS.items():
    cells = []
    for run in runs.values():
      values = run[name]
      late = values[:, values.shape[1] // 2 :].mean(axis=1)
      spread = f' +- {late.std(ddof=1):.4f}' if len(late) > 1 else ''
      cells.append(f'{late.mean():.4f}{spread}')
    lines.append(f'| {label} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def draw(runs, path: pathlib.Path) -> None:
  """Every seed as a thin line, the mean as a thick one."""
  from fedpm_jax.reports import style

  names = ('eval/accuracy_mean', 'train/loss', 'uplink/bpp_wire')
  figure = style.figure(figsize=(12, 3.6))
  axes = figure.subplots(1, 3)
  for axis, name in zip(axes, names, strict=True):
    for i, (lowering, run) in enumerate(runs.items()):
      colour = f'C{i}'
      axis.plot(run[name].T, color=colour, linewidth=0.5, alpha=0.5)
      mean = run[name].mean(axis=0)
      axis.plot(mean, color=colour, linewidth=1.8, label=lowering)
    axis.set(xlabel='round', title=METRICS[name])
    axis.grid(alpha=0.3)
  axes[0].set_ylim(0.9, 1.0)
  axes[1].set_yscale('log')
  axes[0].legend()
  style.save(figure, path)


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  runs = read(folder)
  print(table(runs))
  draw(runs, folder / 'curves.png')
  print(folder / 'curves.png')


if __name__ == '__main__':
  main()
