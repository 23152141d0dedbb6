"""Executes a notebook in a fresh kernel.

    python tests/notebooks/executed.py

executes all of them and writes their outputs into the files, for a commit.
"""

import copy
import os
import pathlib
import sys
import tempfile

import nbclient
import nbformat

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))


def execute(
  notebook: nbformat.NotebookNode, folder: pathlib.Path
) -> nbformat.NotebookNode:
  """A copy with outputs, and nothing that differs from machine to machine.

  Args:
    notebook: its outputs are not looked at.
    folder: where the kernel works.

  Raises:
    CellExecutionError: a cell has raised an exception.
  """
  # Compiled as users have it, see tests/conftest.py.
  env = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  env['PYTHONPATH'] = f'{ROOT}{os.pathsep}{env.get("PYTHONPATH", "")}'
  done = nbclient.NotebookClient(
    copy.deepcopy(notebook),
    timeout=600,
    kernel_name='python3',
    record_timing=False,
    coalesce_streams=True,
    resources={'metadata': {'path': str(folder)}},
  ).execute(env=env)
  done.metadata.language_info = {'name': 'python'}
  return done


def with_cell(
  notebook: nbformat.NotebookNode, source: str
) -> nbformat.NotebookNode:
  """A copy with one more cell of code."""
  more = nbformat.from_dict(copy.deepcopy(notebook))
  more.cells.append(nbformat.v4.new_code_cell(source))
  return more


def read(path: pathlib.Path) -> nbformat.NotebookNode:
  return nbformat.read(path, as_version=4)


if __name__ == '__main__':
  for each in [*map(pathlib.Path, sys.argv[1:])] or NOTEBOOKS:
    with tempfile.TemporaryDirectory() as temporary:
      nbformat.write(execute(read(each), pathlib.Path(temporary)), each)
    print(each.name)
