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


def serve(run) -> None:
  """Answers until standard input ends.

  Args:
    run: does the task once; its seconds are what it returns, or, if that is
      None, what it took.
  """
  # Libraries print where they like; the answers need the pipe for themselves.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  print('ready', file=answers, flush=True)
  for _ in sys.stdin:
    start = time.perf_counter()
    seconds = run()
    if seconds is None:
      seconds = time.perf_counter() - start
    print(json.dumps(seconds), file=answers, flush=True)


def missing(how_to_get: str) -> None:
  """Says that the peer is not installed, and ends the process."""
  print(json.dumps({'missing': how_to_get}), flush=True)
  sys.exit(0)
