"""What is lost when things break: kills, damaged files, two starts, full disks.

    python benchmarks/robustness.py --kills=50 --damages=600

Prints a table.  A run that breaks must end, after the same command was given
again, as if nothing had happened: the same metrics but times, and the same
bytes of the model.  A damaged file must be survived in the same way, or named
in one line.  Neither may take long.  `--only=kills,damages,starts,disk` chooses
some parts; `--seed` chooses the damages.

It is no test, because it takes half an hour.  The kinds of damage that it draws
at random stand in the tests, one by one.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator

from absl import logging
from damaged_files import COLUMNS, SLOW, SMALL, Tally, config, damages, outcome

import fedpm_jax as fp
from fedpm_jax.system import machine

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A process of its own starts from the defaults of the package too.
DEFAULTS = ROOT / 'benchmarks' / 'workers' / 'defaults.py'
QUIET = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
FLAGS = [f'--config.{key}={value}' for key, value in SMALL.items()]


def command(workdir: pathlib.Path, *extra: str) -> list[str]:
  """The command of a run, from the defaults of the package."""
  program = [sys.executable, '-m', 'fedpm_jax.train', f'--workdir={workdir}']
  return [*program, f'--config={DEFAULTS}', *FLAGS, *extra]


def start(workdir: pathlib.Path, prefix=(), timeout=None):
  """Runs the command to its end."""
  return subprocess.run(
    [*prefix, *command(workdir)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


def is_one_line(result) -> bool:
  """Whether a process that failed said why in one line, the last."""
  lines = result.stderr.splitlines()
  return result.returncode == 1 and [x[:6] for x in lines] == ['error:']


def kills(folder, reference, number: int, draw) -> Iterator[tuple[str, Tally]]:
  """Kills runs at random moments, until so many kills have hit."""
  tally, hits, run = Tally(), 0, 0
  seconds = 8.0  # of a whole run; found out below
  while hits < number:
    workdir = folder / f'killed_{run}'
    run += 1
    killed = 0
    while True:
      begun = time.monotonic()
      with subprocess.Popen(command(workdir), cwd=ROOT, **QUIET) as process:
        try:
          # At last it may come to its end.
          process.wait(draw.uniform(0.2, 1) * seconds if killed < 5 else None)
          break
        except subprocess.TimeoutExpired:
          process.kill()
          killed += 1
    if not killed:
      seconds = time.monotonic() - begun
    if process.returncode:
      verdict = 'other error'
    else:
      verdict = 'same end' if outcome(workdir) == reference else 'changed'
    tally[verdict] += killed
    hits += killed
    shutil.rmtree(workdir)
  yield '`kill -9` at a random moment', tally


def starts(folder, reference, number: int) -> Iterator[tuple[str, Tally]]:
  """Two processes, the same command, the same folder, at the same time."""
  tally = Tally()
  for i in range(number):
    workdir = folder / f'twice_{i}'
    both = [
      subprocess.Popen(
        command(workdir),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
      )
      for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    winner = codes.index(0) if 0 in codes else 0
    refused = f'is in use: process {both[winner].pid} ' in said[1 - winner]
    if sorted(codes) != [0, 1] or not refused:
      # Both may end well, one after the other.
      print(f'two starts: {codes} {said}', file=sys.stderr)
      tally['other error'] += codes != [0, 0]
    same = outcome(workdir) == reference
    tally['same end' if same else 'changed'] += 1
    tally['named'] += refused
    shutil.rmtree(workdir)
  yield 'two starts at once, one is refused', tally


DISKS = ('size=150k', 'size=1M', 'size=2M', 'nr_inodes=4', 'nr_inodes=12')
DISKS += ('nr_inodes=25', 'nr_inodes=40')


def disks(folder, reference) -> Iterator[tuple[str, Tally]]:
  """A run on a disk that fills up; room is made; the same command again."""
  for what in DISKS:
    tally, mount = Tally(), folder / 'disk'
    mount.mkdir(exist_ok=True)
    report = folder / 'report.json'
    worker = [sys.executable, __file__, f'--inside={mount}:{what}:{report}']
    done = subprocess.run(['unshare', '-rm', *worker], cwd=ROOT, check=False)
    if done.returncode:
      print('No disk could be mounted here: left out.', file=sys.stderr)
      return
    seconds, one_line, digest = json.loads(report.read_text())
    tally['named'] += one_line
    tally['other error'] += not one_line
    tally['same end' if digest == reference else 'changed'] += 1
    tally[COLUMNS[-1]] += seconds > 2 * SLOW  # compiling included
    yield f'disk of {what}, then room is made', tally


def inside(text: str) -> None:
  """In a name space of its own: mounts a small disk, fills it, makes room."""
  mount, what, report = text.split(':')
  mounted = ['mount', '-t', 'tmpfs', '-o']
  subprocess.run([*mounted, what, 'tmpfs', mount], check=True)
  workdir = pathlib.Path(mount) / 'run'
  begun = time.monotonic()
  first = start(workdir)
  seconds = time.monotonic() - begun
  one_line = is_one_line(first)
  if not one_line:
    print(what, first.returncode, first.stderr[-2000:], file=sys.stderr)
  more = ['mount', '-o', 'remount,size=100M,nr_inodes=10000', mount]
  subprocess.run(more, check=True)
  second = start(workdir)
  digest = outcome(workdir) if second.returncode == 0 else second.stderr
  pathlib.Path(report).write_text(json.dumps([seconds, one_line, digest]))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--damages', type=int, default=600)
  parser.add_argument('--starts', type=int, default=5)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', default='kills,damages,starts,disk')
  parser.add_argument('--inside', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.inside:
    inside(args.inside)
    return
  logging.set_verbosity(logging.ERROR)
  warnings.simplefilter('ignore')
  machine.keep_compiled_programs()
  draw, only = random.Random(args.seed), args.only.split(',')
  print(f'| what breaks | tries | {" | ".join(COLUMNS)} |')
  print('| --- ' * (len(COLUMNS) + 2) + '|')
  total = Tally()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    fp.train(config(), folder / 'reference')
    reference = outcome(folder / 'reference')
    parts = {
      'kills': lambda: kills(folder, reference, args.kills, draw),
      'damages': lambda: damages(folder, args.damages, draw),
      'starts': lambda: starts(folder, reference, args.starts),
      'disk': lambda: disks(folder, reference),
    }
    for part in only:
      for what, tally in parts[part]():
        show(what, tally)
        total += tally
  show('together', total)


def show(what: str, tally: Tally) -> None:
  """A line of the table."""
  tries = max(tally[COLUMNS[0]], 0) + tally['changed']
  if not what.startswith(('two', 'disk')):
    tries += tally['named'] + tally['other error']
  cells = [str(tally[column]) for column in COLUMNS]
  print(f'| {what} | {tries} | {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
  main()
