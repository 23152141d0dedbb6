"""Memory and seconds where the training set is a mapped file.

    python benchmarks/large_data.py --gigabytes=4 --folder=FOLDER --json FILE

Writes a file of random images of 32x32x3 pixels, 100 to each client, of which
100 clients take part in a round.  `all` reads the file and puts the images on
the devices, `cohort` maps it, so that each turn of clients brings its own.  Each
is a process of its own, in turn.  `held_mb` is by how much the memory that the
process has for itself (RssAnon) has grown since before it opened the file, so
that the images of `all` are in it.  Pages of a mapped file do not count, since
the system takes them back when it needs them.
"""

import argparse
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

_EACH = 100  # images of a client
_COHORT = 100
_SHAPE = (32, 32, 3)
WAYS = ('all', 'cohort')


def measure(path: str, way: str, rounds: int) -> dict[str, float]:
  """One way, in this process."""
  import numpy as np

  import fedpm_jax as fp
  from fedpm_jax.experiments.experiment import Experiment

  before = _held()
  images = np.load(path, mmap_mode='r' if way == 'cohort' else None)
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 10, len(images)).astype(np.int32)
  dataset = fp.Dataset(
    'random', images, labels, np.array(images[:500]), labels[:500], 10
  )
  clients = len(images) // _EACH
  config = fp.config()
  config.update_from_flattened_dict(
    {
      'rounds': rounds,
      'num_clients': clients,
      'clients_per_round': min(clients, _COHORT),
      'local_epochs': 1,
      'batch_size': 20,
      'model': 'lenet',
      'execution.examples': way,
    }
  )
  began = time.perf_counter()
  run = Experiment(config, dataset=dataset)
  start = time.perf_counter() - began
  times = []
  for _ in range(rounds):
    times.append(run.run_round().metrics['time/round_s'])
  return {
    'clients': clients,
    'start_s': round(start, 2),
    'round_s': round(statistics.median(times[min(2, rounds - 1) :]), 3),
    'held_mb': round(_held() - before),
  }


def _held() -> float:
  """Megabytes that this process has for itself."""
  status = pathlib.Path('/proc/self/status').read_text('ascii')
  found = re.search(r'RssAnon:\s+(\d+) kB', status)
  return int(found[1]) / 1000 if found else float('nan')


def write(path: pathlib.Path, gigabytes: float) -> None:
  """Random images, a part at a time."""
  import numpy as np

  of_an_image = math.prod(_SHAPE)
  count = int(gigabytes * 1e9) // (of_an_image * _EACH) * _EACH
  images = np.lib.format.open_memmap(path, 'w+', np.uint8, (count, *_SHAPE))
  rng = np.random.default_rng(0)
  for first in range(0, count, 50_000):
    part = images[first : first + 50_000]
    part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
  images.flush()


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--gigabytes', type=float, default=4.0)
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--folder', help='for the file; a temporary one if empty')
  parser.add_argument('--json')
  parser.add_argument('--one', nargs=2, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(measure(*args.one, args.rounds)))
    return
  with tempfile.TemporaryDirectory(dir=args.folder) as folder:
    path = pathlib.Path(folder) / 'images.npy'
    write(path, args.gigabytes)
    found = {way: [] for way in WAYS}
    for _ in range(args.repeats):
      for way in WAYS:
        command = [sys.executable, __file__, '--one', str(path), way]
        command += [f'--rounds={args.rounds}']
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found[way].append(json.loads(done.stdout.splitlines()[-1]))
        print(way, found[way][-1], flush=True)
  rows = {
    way: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    for way, rows in found.items()
  }
  rows['gigabytes'] = args.gigabytes
  print(json.dumps(rows, indent=2))
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
  main()
