"""Tables and pictures of the runs of a sweep."""

import pathlib

from fedpm_jax.reports import comparison, comparison_plots, comparison_tables


def compare_runs(
  workdir: pathlib.Path, out: pathlib.Path, *, targets: dict[str, float]
) -> str:
  """Tables and pictures of the runs of a sweep.

  Args:
    workdir: of the sweep.
    out: where to write them.
    targets: see `comparison.table`.

  Returns:
    The Markdown tables, and the files that were written.

  Raises:
    ValueError: the folder holds no runs, or runs that do not compare.
  """
  groups = comparison.read(workdir)
  text, files = comparison_tables.write(groups, out, targets)
  files += comparison_plots.draw(groups, out)
  return '\n'.join([text, *map(str, files)])
