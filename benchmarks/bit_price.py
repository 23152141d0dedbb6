"""What a price of bits saves and costs, at each size.

    fedpm sweep --config=bit_price --jobs=2
    python benchmarks/bit_price.py runs/bit_price results/bit_price

Reads the runs of `configs/sweeps/bit_price.py`, prints a table and writes it to
`sizes.md`.  Accuracy is that of the mean network, as the mean of the last three
evaluations; bits are those of the last ten rounds, as sent.  What a price does
is compared seed by seed with the run of the same size at price 0, and the mean
over seeds is shown.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import rate_curve

from fedpm_jax.reports import sweep_runs
from fedpm_jax.system import files

FREE = 'fedpm_price_0'


def table(rows: dict[tuple[str, str], dict[str, np.ndarray]]) -> str:
  """A row a size and price.

  Args:
    rows: (size, method) -> accuracy and bits of every seed, `[seeds]` each.
  """
  lines = [
    '| size | price | accuracy | points | uplink | of price 0 | downlink'
    ' | of price 0 |',
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
  ]
  for (size, method), row in rows.items():
    free = rows[size, FREE]
    points = 100 * (row['accuracy'] - free['accuracy']).mean()
    cells = [
      f'{row["accuracy"].mean():.3f}',
      f'{points:+.1f}',
      f'{row["uplink"].mean():.4f}',
      f'{(row["uplink"] / free["uplink"]).mean():.2f}',
      f'{row["downlink"].mean():.3f}',
      f'{(row["downlink"] / free["downlink"]).mean():.2f}',
    ]
    price = method.removeprefix('fedpm_price_')
    lines.append(f'| `{size}` | {price} | {" | ".join(cells)} |')
  return '\n'.join(lines) + '\n'


def main() -> None:
  folder, out = map(pathlib.Path, sys.argv[1:])
  rows = {}
  for group in sweep_runs.read(folder):
    for run in group.missing:
      sys.exit(f'error: {run.path} is missing ({run.reason}): sweep again.')
    rows[group.labels['size'], group.labels['method']] = rate_curve.measured(
      group
    )
  out.mkdir(parents=True, exist_ok=True)
  text = table(rows)
  print(text)
  files.write_bytes(out / 'sizes.md', text.encode())


if __name__ == '__main__':
  main()
