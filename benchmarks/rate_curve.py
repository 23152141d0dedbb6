"""Accuracy against bits, a line for each way to send less.

    fedpm sweep --config=rate --jobs=2
    python benchmarks/rate_curve.py runs/rate results/rate

Reads the runs of `configs/sweeps/rate.py`, prints a table, and writes it to
`curve.md` with `curve.png` and `curve.pdf` beside it.  Accuracy is that of the
mean network, as the mean of the last three evaluations; bits are those of the
last ten rounds, as sent.  Means over seeds, and their standard deviation.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from fedpm_jax.reports import labels, style, sweep_runs
from fedpm_jax.system import files

DEFAULT = 'fedpm'
# Way -> what its line is called, and the value that the default has on it.
WAYS = {
  'price': ('bit price', '0'),
  'rate': ('rate', '0.25'),
  'rate_0.5_price': ('rate 0.5, bit price', None),
  'persistent_rate': ('persistent Adam, rate', None),
  'usual_eps_rate': ('eps 1e-8, rate', None),
}
DIRECTIONS = ('uplink', 'downlink')


def measured(group: sweep_runs.Group) -> dict[str, np.ndarray]:
  """Accuracy and bits of every seed, `[seeds]` each."""
  found = {'accuracy': [], 'uplink': [], 'downlink': []}
  for run in group.runs:
    evaluated = [accuracy for _, accuracy in sweep_runs.evaluated(run)]
    found['accuracy'].append(np.mean(evaluated[-3:]))
    for way in DIRECTIONS:
      rates = [row[f'{way}/bpp_wire'] for row in run.rows]
      found[way].append(np.mean(rates[-10:]))
  return {name: np.array(values) for name, values in found.items()}


def table(rows: dict[str, dict[str, np.ndarray]]) -> str:
  """A row a method, in the order of the sweep."""
  lines = ['| | accuracy | uplink | downlink |', '| --- | --- | --- | --- |']
  for name, row in rows.items():
    cells = [
      f'{row[key].mean():.{digits}f} +- {_spread(row[key]):.{digits}f}'
      for key, digits in (('accuracy', 3), ('uplink', 4), ('downlink', 3))
    ]
    lines.append(f'| `{name}` | {" | ".join(cells)} |')
  return '\n'.join(lines) + '\n'


def points(rows, way: str) -> dict[str, dict[str, np.ndarray]]:
  """The points of a line by the value of its switch, smallest first."""
  prefix, at_default = f'{DEFAULT}_{way}_', WAYS[way][1]
  found = {
    name.removeprefix(prefix): row
    for name, row in rows.items()
    if name.startswith(prefix) and _is_number(name.removeprefix(prefix))
  }
  if at_default is not None:
    found[at_default] = rows[DEFAULT]
  return dict(sorted(found.items(), key=lambda item: float(item[0])))


def _spread(values: np.ndarray) -> float:
  """Standard deviation over seeds; 0 of one seed."""
  return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _is_number(value: str) -> bool:
  return value.replace('.', '', 1).isdigit()


def draw(rows, stem: pathlib.Path) -> list[pathlib.Path]:
  """A panel a direction; the bars are standard deviations over the seeds."""
  figure = style.figure(figsize=(11, 4.6))
  axes = figure.subplots(1, 2, sharey=True)
  drawn, lines = [], {}
  for axis, direction in zip(axes, DIRECTIONS, strict=True):
    style.panel(axis, xlabel=f'{direction}, bits per parameter and client')
    named, ends = {}, []
    for i, (way, (title, _)) in enumerate(WAYS.items()):
      on_line = points(rows, way)
      x = [row[direction].mean() for row in on_line.values()]
      y = [row['accuracy'].mean() for row in on_line.values()]
      error = [_spread(row['accuracy']) for row in on_line.values()]
      lines[title] = axis.errorbar(
        x,
        y,
        error,
        color=style.COLOURS[i],
        marker=style.MARKERS[i],
        capsize=2,
        linewidth=1.2,
        elinewidth=0.7,
      )
      ends += [*np.subtract(y, error), *np.minimum(1, np.add(y, error))]
      for value, place in zip(on_line, zip(x, y, strict=True), strict=True):
        # Lines may have a value in common, and `named` has it once.
        while value in named:
          value += ' '
        named[value] = place
    style.logarithmic(axis.xaxis)
    style.accuracies(axis, ends)
    drawn.append((axis, named))
  axes[0].set_ylabel('validation accuracy, mean network')
  style.legend(axes[1], lines, loc='upper left', fontsize='small')
  labels.at_points(figure, drawn)
  return style.save_both(figure, stem)


def main() -> None:
  folder, out = map(pathlib.Path, sys.argv[1:])
  groups = sweep_runs.read(folder)
  rows = {g.labels['method']: measured(g) for g in groups if g.runs}
  for group in groups:
    for run in group.missing:
      print(f'missing: {run.path} ({run.reason})', file=sys.stderr)
  if DEFAULT not in rows:
    sys.exit(f'error: {folder} has no finished run of {DEFAULT!r}.')
  out.mkdir(parents=True, exist_ok=True)
  text = table(rows)
  print(text)
  files.write_bytes(out / 'curve.md', text.encode())
  for path in draw(rows, out / 'curve'):
    print(path)


if __name__ == '__main__':
  main()
