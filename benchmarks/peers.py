"""fedpm_jax against what a user would pick instead: one run, taking turns.

    python benchmarks/peers.py --official=CHECKOUT [--python=...] [--json FILE]

Every implementation is a process of its own that has done the task twice.  Then
they take turns, `--repeats` times.  A turn is the task once, which does not
count, and twice more: a process that waited has lost caches, and a virtual
machine its free memory, which a run of many rounds does not.  Who waits is
stopped, with all processes that it has started: some peers' never sleep.
Reported are medians and the ratio of the medians.  Tasks:

    conv6, conv4   local steps of 10 clients, batch 128: seconds a client step
    round          a FedPM round: CONV-4, 10 clients x 512 images, 1 epoch, the
                   wire (ours) or upload and aggregation with its statistics
                   (theirs) included
    cross_device   50 clients x 50 CIFAR-shaped images, batch 10, 1 epoch, the
                   network 'cnn'; FedPM and FedAvg with float32 messages
                   (ours), federated averaging without messages (theirs)

    gpu_round      a round of the paper's CIFAR-10 run on a GPU: CONV-6, 10
                   clients, batch 128, 40 steps of the paper's 120; run by name

A peer that is not there is left out, with a line that says how to get it.  No
peer's code is part of this repository.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import types
from typing import NamedTuple

from engines import SHAPES

from fedpm_jax.system import allocator

RUNS = 2  # of a turn that count
WORKERS = pathlib.Path(__file__).parent / 'workers'


class Peer(NamedTuple):
  """One line of the table.

  Attributes:
    name: for people.
    worker: the file in `workers/`.
    processes: that share the clients and run at the same time.
    huge_pages: whether the process gets the allocator's settings.
    task: what differs from the common task.
  """

  name: str
  worker: str
  processes: int = 1
  huge_pages: bool = False
  task: types.MappingProxyType = types.MappingProxyType({})


OURS = Peer('fedpm_jax', 'ours', huge_pages=True)
OFFICIAL = Peer('official PyTorch, as it stands', 'official')
BEST_OFFICIAL = (
  Peer('official, our allocator settings', 'official', huge_pages=True),
  Peer(
    'official, 2 processes x 1 thread, our settings',
    'official',
    processes=2,
    huge_pages=True,
    task=types.MappingProxyType({'threads': 1}),
  ),
)
STEPS = {'what': 'steps', 'clients': 10, 'batch': 128, 'steps': 1}
TASKS = {
  'conv6': ({**STEPS, 'model': 'conv6'}, (OURS, OFFICIAL, *BEST_OFFICIAL)),
  'conv4': ({**STEPS, 'model': 'conv4'}, (OURS, OFFICIAL, *BEST_OFFICIAL)),
  'round': (
    {**STEPS, 'what': 'round', 'model': 'conv4', 'steps': 4},
    (OURS, OFFICIAL),
  ),
  'cross_device': (
    {'what': 'round', 'model': 'cnn', 'clients': 50, 'batch': 10, 'steps': 5},
    (
      OURS,
      Peer(
        'fedpm_jax, FedAvg',
        'ours',
        huge_pages=True,
        task=types.MappingProxyType({'method': 'fedavg'}),
      ),
      Peer('FedJAX, jit backend', 'fedjax'),
      Peer('Flower, simulation (Ray, PyTorch)', 'flower'),
      Peer('pfl-research, simulation (PyTorch)', 'pfl'),
    ),
  ),
  'gpu_round': (
    {
      **{'what': 'round', 'model': 'conv6', 'clients': 10, 'batch': 128},
      **{'steps': 40, 'device': 'cuda'},
    },
    (
      OURS,
      Peer(
        'fedpm_jax, bfloat16',
        'ours',
        huge_pages=True,
        task=types.MappingProxyType({'dtype': 'bfloat16'}),
      ),
      OFFICIAL,
    ),
  ),
}


class Contender:
  """A peer's processes, ready to run."""

  def __init__(self, peer: Peer, task: dict, python: str):
    self.peer = peer
    self.seconds = []
    self.missing = None
    environ = {**os.environ, 'PYTHONWARNINGS': 'ignore'}
    environ.pop('GLIBC_TUNABLES', None)
    if peer.huge_pages:
      environ = allocator.environment(environ)
    task = {'threads': 0, **task, **peer.task}
    task['clients'] //= peer.processes
    self._errors = [
      tempfile.TemporaryFile('w+')  # noqa: SIM115 (open as long as they run)
      for _ in range(peer.processes)
    ]
    self._processes = [
      subprocess.Popen(
        [python, str(WORKERS / f'{peer.worker}.py'), json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environ,
      )
      for errors in self._errors
    ]
    for process, errors in zip(self._processes, self._errors, strict=True):
      line = process.stdout.readline().strip()
      if line != 'ready':
        self.missing = json.loads(line)['missing'] if line else _last(errors)

  def run(self, count: bool) -> None:
    """Once; all processes at the same time."""
    start = time.perf_counter()
    for process in self._processes:
      print('run', file=process.stdin, flush=True)
    answers = [json.loads(p.stdout.readline()) for p in self._processes]
    wall = time.perf_counter() - start
    if count:
      self.seconds.append(answers[0] if len(answers) == 1 else wall)

  def stop(self) -> None:
    """Until `go_on`, for it and its processes: they cost the others no time."""
    for process in family([p.pid for p in self._processes]):
      _signal(process, signal.SIGSTOP)

  def go_on(self) -> None:
    for process in family([p.pid for p in self._processes]):
      _signal(process, signal.SIGCONT)

  def close(self) -> None:
    self.go_on()
    for process, errors in zip(self._processes, self._errors, strict=True):
      with contextlib.suppress(BrokenPipeError):  # It has died.
        process.stdin.close()
      try:
        process.wait(30)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
      process.stdout.close()
      errors.close()


def family(roots: list[int]) -> list[int]:
  """Processes and all that they, and these in turn, have started.

  Without the command `ps`, the processes alone.
  """
  if not shutil.which('ps'):
    return list(roots)
  listing = subprocess.run(
    ['ps', '-eo', 'pid=,ppid='], capture_output=True, text=True, check=True
  ).stdout
  children = collections.defaultdict(list)
  for line in listing.splitlines():
    child, parent = map(int, line.split())
    children[parent].append(child)
  found = list(roots)
  for parent in found:  # grows meanwhile
    found += children[parent]
  return found


def _signal(process: int, number: int) -> None:
  with contextlib.suppress(ProcessLookupError):  # It has just ended.
    os.kill(process, number)


def _last(errors) -> str:
  """The last line that a process that failed has written."""
  errors.seek(0)
  lines = errors.read().strip().splitlines()
  return f'it failed: {lines[-1] if lines else "without a word"}'


def compare(name: str, args) -> dict:
  """One task, every contender; prints the table and returns it."""
  task, peers = TASKS[name]
  shape, classes = SHAPES[task['model']]
  task = {
    **task,
    'image_shape': shape,
    'classes': classes,
    'checkout': args.official,
  }
  contenders = []
  with contextlib.ExitStack() as stack:  # closes all, even if one has died
    for peer in peers:
      contender = Contender(peer, task, args.python)
      stack.callback(contender.close)
      contender.stop()
      if not contender.missing:
        contenders.append(contender)
        continue
      print(f'{name}: without {peer.name}: {contender.missing}', flush=True)
      if peer == OURS:
        sys.exit('Ours is what all others are compared with.')
    for _ in range(args.repeats):
      for contender in contenders:
        contender.go_on()
        contender.run(count=False)
        for _ in range(RUNS):
          contender.run(count=True)
        contender.stop()
  parts = task['clients'] * task['steps'] if task['what'] == 'steps' else 1
  unit = 'client step' if task['what'] == 'steps' else 'round'
  medians = [statistics.median(c.seconds) / parts for c in contenders]
  print(f'\n{name}: seconds a {unit}, and ours as a share of theirs')
  rows = []
  for contender, median in zip(contenders, medians, strict=True):
    share = medians[0] / median
    spread = [min(contender.seconds) / parts, max(contender.seconds) / parts]
    print(
      f'  {median:8.3f}  ({spread[0]:.3f} to {spread[1]:.3f})'
      f'  {share:5.2f}  {contender.peer.name}',
      flush=True,
    )
    rows.append(
      {
        'name': contender.peer.name,
        f'seconds_per_{unit.replace(" ", "_")}': round(median, 4),
        'least': round(spread[0], 4),
        'most': round(spread[1], 4),
        'ours_as_share': round(share, 3),
      }
    )
  return {'task': task | {'checkout': None}, 'rows': rows}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--official', help='a checkout of the official code')
  parser.add_argument(
    '--python',
    default=sys.executable,
    help='of the environment with the peers and with fedpm_jax',
  )
  parser.add_argument(
    '--task',
    nargs='+',
    choices=TASKS,
    default=[name for name in TASKS if name != 'gpu_round'],
  )
  parser.add_argument('--repeats', type=int, default=3, help='turns')
  parser.add_argument('--json', help='a file')
  args = parser.parse_args()
  # Whoever is stopped goes on and ends, whatever ends this process.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  results = {}
  for name in args.task:
    results[name] = compare(name, args)
    if args.json:
      text = json.dumps(results, indent=2) + '\n'
      pathlib.Path(args.json).write_text(text)


if __name__ == '__main__':
  main()
