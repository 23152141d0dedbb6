"""How `peers.py` talks to the process that times one implementation.

The process gets its task as JSON in its first argument, prepares it, says
"ready", and for every line that it is sent runs it once and answers with its
seconds, so that several of them can take turns.  What else it prints goes to
standard error.
"""

import json
import os
import sys
import time


def task() -> dict:
  """What to do; see `peers.py`."""
  return json.loads(sys.argv[1])


class Turn:
  """For libraries that call back, instead of being called."""

  def __init__(self):
    # Libraries print where they like; the answers need the pipe for themselves.
    self._answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    self._ready = False
    self._start = 0.0

  def wait(self) -> None:
    """Returns when it is this process's turn; ends it when there is none."""
    if not self._ready:
      self._ready = True
      print('ready', file=self._answers, flush=True)
    if not sys.stdin.readline():
      self._answers.close()
      os._exit(0)
    self._start = time.perf_counter()

  def done(self, seconds: float | None = None) -> None:
    """The task was done once; its seconds, if not those since `wait`."""
    if seconds is None:
      seconds = time.perf_counter() - self._start
    print(json.dumps(seconds), file=self._answers, flush=True)


def serve(run) -> None:
  """Takes turns; `run` does the task once and may return its seconds."""
  turn = Turn()
  while True:
    turn.wait()
    turn.done(run())


def missing(how_to_get: str) -> None:
  """Says that the peer is not installed, and ends the process."""
  print(json.dumps({'missing': how_to_get}), flush=True)
  sys.exit(0)
