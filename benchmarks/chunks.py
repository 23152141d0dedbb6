"""How many clients of a GPU to vectorise: `execution.chunk`, measured.

    python benchmarks/chunks.py [--json FILE]

Each case is a network with a batch and a cohort, from the first run on the
digits to the paper's CIFAR-10.  Each of its ways is a chunk with a lowering of
convolutions.  Cases are processes of their own, which compile side by side and
then take turns, one way after another: a time is of a device that does nothing
else.  Random images; local training alone; medians over rounds.
"""

import argparse
import concurrent.futures
import fcntl
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import engines

CASES = {
  'digits': {'model': 'conv4', 'batch': 32, 'clients': 10, 'steps': 15},
  'cnn': {'model': 'cnn', 'batch': 10, 'clients': 50, 'steps': 5},
  'conv4_32': {'model': 'conv4', 'batch': 32, 'clients': 10, 'steps': 20},
  'conv4_128': {'model': 'conv4', 'batch': 128, 'clients': 10, 'steps': 20},
  'conv6_10': {'model': 'conv6', 'batch': 10, 'clients': 10, 'steps': 20},
  'conv6_32': {'model': 'conv6', 'batch': 32, 'clients': 10, 'steps': 20},
  'conv6_128': {'model': 'conv6', 'batch': 128, 'clients': 10, 'steps': 20},
}
WAYS = ((1, 'auto'), (5, 'auto'), (5, 'im2col'), (10, 'auto'), (10, 'im2col'))
COMPILERS = 3  # threads of a case


def measure(name: str, folder: pathlib.Path, cases: int, repeats: int) -> None:
  """All ways of a case, in this process; a line of JSON each.

  Args:
    name: a key of CASES.
    folder: where the cases leave a file each when they have compiled.
    cases: how many there are.
    repeats: rounds.
  """
  from round import seconds

  case = CASES[name]
  ways = list(WAYS)
  if case['clients'] > 10:
    ways += [(case['clients'], 'auto'), (case['clients'], 'im2col')]

  def ready(way):
    chunk, lowering = way
    data = engines.DIGITS if name == 'digits' else None
    engine, cohort = engines.build(
      **case, chunk=chunk, lowering=lowering, data=data
    )
    train = engines.training(engine, cohort)
    start = time.perf_counter()
    train()
    return train, time.perf_counter() - start

  with concurrent.futures.ThreadPoolExecutor(COMPILERS) as pool:
    waiting = [pool.submit(ready, way) for way in ways]
    concurrent.futures.wait(waiting)
  (folder / f'{name}.compiled').touch()
  while len(list(folder.glob('*.compiled'))) < cases:
    time.sleep(0.1)
  import jax

  for (chunk, lowering), made in zip(ways, waiting, strict=True):
    row = {'case': name, **case, 'chunk': chunk, 'lowering': lowering}
    try:
      train, first = made.result()
      with open(folder / 'turn', 'w') as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        took = seconds(train, repeats)
      row['milliseconds_per_client_step'] = round(
        1000 * took / (case['clients'] * case['steps']), 4
      )
      row['compile_s'] = round(first - took, 1)  # beside others
    except Exception as error:  # a way may not fit into memory
      row['problem'] = str(error).partition('\n')[0][:200]
    row['device'] = jax.devices()[0].device_kind
    row['jax'] = jax.__version__
    print(json.dumps(row), flush=True)


def run_apart(name: str, folder: str, args: argparse.Namespace) -> str:
  """A case in a process of its own; the lines that it printed."""
  done = subprocess.run(
    [
      *(sys.executable, __file__, f'--case={name}', f'--folder={folder}'),
      *(f'--cases={len(args.case)}', f'--repeats={args.repeats}'),
    ],
    env={**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'},
    stdout=subprocess.PIPE,
    text=True,
  )
  # Nobody waits for one that has failed.
  pathlib.Path(folder, f'{name}.compiled').touch()
  return done.stdout


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--json', help='a file')
  parser.add_argument('--repeats', type=int, default=5, help='rounds')
  parser.add_argument('--case', nargs='+', choices=CASES, default=list(CASES))
  parser.add_argument('--folder', help=argparse.SUPPRESS)
  parser.add_argument('--cases', type=int, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.folder:
    folder = pathlib.Path(args.folder)
    measure(args.case[0], folder, args.cases, args.repeats)
    return
  rows = []
  with (
    tempfile.TemporaryDirectory() as folder,
    concurrent.futures.ThreadPoolExecutor(len(args.case)) as pool,
  ):
    apart = functools.partial(run_apart, folder=folder, args=args)
    for printed in pool.map(apart, args.case):
      rows += [json.loads(line) for line in printed.splitlines()]
  for row in rows:
    print(
      f'{row["case"]:10} chunk {row["chunk"]:2} {row["lowering"]:7}',
      row.get('milliseconds_per_client_step', row.get('problem')),
      flush=True,
    )
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
  main()
