"""Tables and pictures of the runs of a sweep."""

import pathlib

from fedpm_jax.reports import (
  comparison_plots,
  comparison_tables,
  sweep_runs,
  tables,
)
from fedpm_jax.system.text import printable


def compare_runs(
  workdir: pathlib.Path, out: pathlib.Path, *, targets: dict[str, float]
) -> str:
  """Tables and pictures of the runs of a sweep.

  Args:
    workdir: of the sweep.
    out: where to write them.
    targets: see `comparison.table`.

  Returns:
    The Markdown tables, what is damaged, and the files that were written.

  Raises:
    ValueError: the folder holds no runs, or runs that do not compare.
  """
  groups = sweep_runs.read(workdir)
  _, problem = sweep_runs.order(workdir)
  text, files = comparison_tables.write(groups, out, targets)
  files += comparison_plots.draw(groups, out)
  lines = [text]
  if problem:
    lines += [f'In the order of their names: {tables.escaped(problem)}', '']
  return '\n'.join([*lines, *(printable(str(path)) for path in files)])
