"""Where numbers come from: command, date, code, machine."""

import datetime
import os
import pathlib
import shlex
import subprocess
import sys
from typing import Any

from fedpm_jax.system import text
from fedpm_jax.system.version import __version__

_PACKAGE = pathlib.Path(__file__).parents[1]
# Beginnings of environment variables that JAX and XLA read.
_READ = ('JAX_', 'XLA_', 'CUDA_VISIBLE', 'NVIDIA_TF32')


def describe() -> dict[str, Any]:
  """What is known of this process before it computes, as JSON."""
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': command(),
    'fedpm_jax': __version__,
    'commit': commit(),
    'environment': {
      name: text.printable(value)
      for name, value in sorted(os.environ.items())
      if name.startswith(_READ)
    },
  }


def command() -> str:
  """The command line of this process, for a shell.

  A process that `multiprocessing` started has that of its parent.
  """
  program, *arguments = sys.argv or ['']
  path = pathlib.Path(program)
  if path.parent == _PACKAGE:
    words = ['python', '-m', f'{_PACKAGE.name}.{path.stem}']
  else:
    words = ['python'] * (path.suffix == '.py') + [path.name]
  return text.printable(shlex.join([*words, *arguments]))


def commit() -> str | None:
  """The commit of the package; `+` behind it where files were changed since.

  Returns:
    None where the package is no checkout, or there is no git.
  """
  root = _git('rev-parse', '--show-toplevel')
  # An installed package may lie inside of another project's checkout.
  if root is None or pathlib.Path(root) != _PACKAGE.parent:
    return None
  head, changes = (
    _git('rev-parse', 'HEAD'),
    _git('status', '--porcelain', '-uno'),
  )
  return head and head + ('+' if changes else '')


def _git(*arguments: str) -> str | None:
  """What a git command prints; None where it fails."""
  try:
    done = subprocess.run(
      # It must not write to the checkout, which is not ours.
      ['git', '--no-optional-locks', '-C', _PACKAGE, *arguments],
      capture_output=True,
      timeout=5,
      check=True,
      encoding='utf-8',
      errors='replace',
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip()
