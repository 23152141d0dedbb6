"""Every start of a run, a line each in starts.jsonl: who computed which rounds.

A run may be stopped and go on, by another command, with other code, on another
machine.  Its summary lists all of them.
"""

import json
import pathlib
from typing import Any

from absl import logging

from fedpm_jax.system import files, machine, provenance, reading

NAME = 'starts.jsonl'
_MAX_BYTES = 2**24
_SHAPE = {'date': str, 'command': str, 'rounds_done': int}


def note(workdir: pathlib.Path, rounds_done: int) -> None:
  """Adds this process to the starts of a run.

  Args:
    workdir: of the run, which nobody else writes to.
    rounds_done: after how many rounds it goes on.
  """
  this = provenance.describe() | {
    'device': machine.devices(),
    'rounds_done': rounds_done,
  }
  lines = [json.dumps(start) + '\n' for start in [*read(workdir), this]]
  files.write_bytes(workdir / NAME, ''.join(lines).encode())


def read(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The starts that are known; a damaged line is told of and left out."""
  path, starts = workdir / NAME, []
  try:
    with open(path, 'rb') as file:
      lines = file.read(_MAX_BYTES).splitlines()
  except FileNotFoundError:
    return []
  for number, line in enumerate(lines, 1):
    try:
      starts.append(reading.parse_json(line, _SHAPE))
    except ValueError as error:
      logging.warning('%s:%d: %s. The line is dropped.', path, number, error)
  return starts
