"""Seconds and memory of a run against the number of clients.

    python benchmarks/populations.py --clients=100,1000,10000,100000 --json FILE

Each client has ten random images of 8x8 pixels, 100 clients take part in a
round, and each population is a process of its own.  The data of 100,000 clients
are 64 MB of images and 4 MB of labels; what a client needs besides is what
memory grows by beyond that.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

_EACH = 10  # images of a client
_COHORT = 100


def measure(clients: int, rounds: int, model: str) -> dict[str, float]:
  """One population, in this process."""
  import numpy as np

  import fedpm_jax as fp
  from fedpm_jax.experiments.experiment import Experiment

  rng = np.random.default_rng(0)
  train, test = (
    (
      rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8),
      rng.integers(0, 10, count).astype(np.int32),
    )
    for count in (_EACH * clients, 500)
  )
  dataset = fp.Dataset('random', *train, *test, num_classes=10)
  config = fp.config()
  config.update_from_flattened_dict(
    {
      'rounds': rounds,
      'num_clients': clients,
      'clients_per_round': min(clients, _COHORT),
      'local_epochs': 1,
      'batch_size': _EACH,
      'model': model,
    }
  )
  began = time.perf_counter()
  run = Experiment(config, dataset=dataset)
  start = time.perf_counter() - began
  times = []
  for _ in range(rounds):
    times.append(run.run_round().metrics['time/round_s'])
  run.evaluate()
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return {
    'clients': clients,
    'start_s': start,
    'round_s': statistics.median(times[2:]),  # The first ones compile.
    'memory_mb': peak / (1e6 if sys.platform == 'darwin' else 1e3),
  }


def draw(table: list[dict[str, float]], path: pathlib.Path) -> None:
  """Three small pictures, seconds and memory against clients."""
  from fedpm_jax.reports import style

  drawn = style.figure(figsize=(9, 2.8))
  clients = [row['clients'] for row in table]
  panels = (
    ('start_s', 'start, s'),
    ('round_s', 'a round, s'),
    ('memory_mb', 'memory, MB'),
  )
  for axis, (name, label) in zip(drawn.subplots(1, 3), panels, strict=True):
    style.panel(axis, xlabel='clients', ylabel=label)
    axis.set_xscale('log')
    values = [row[name] for row in table]
    axis.plot(clients, values, marker='o')
    axis.set_ylim(0, 1.1 * max(values))
  style.save(drawn, path)


def main() -> None:
  """Prints a table; writes it, and the picture beside it, if asked to."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--clients', default='100,1000,10000,100000')
  parser.add_argument('--rounds', type=int, default=20)
  parser.add_argument('--model', default='lenet')
  parser.add_argument('--json', type=pathlib.Path)
  parser.add_argument('--alone', action='store_true', help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.alone:
    found = measure(int(options.clients), options.rounds, options.model)
    print(json.dumps(found))
    return
  table = []
  print('clients  start, s  round, s  memory, MB')
  for clients in options.clients.split(','):
    command = [sys.executable, __file__, '--alone', f'--clients={clients}']
    command += [f'--rounds={options.rounds}', f'--model={options.model}']
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    row = json.loads(done.stdout.splitlines()[-1])
    table.append(row)
    print(
      f'{row["clients"]:7,}  {row["start_s"]:8.2f}  {row["round_s"]:8.2f}'
      f'  {row["memory_mb"]:10.0f}'
    )
  if options.json:
    from fedpm_jax.system import machine, provenance

    about = provenance.describe() | {'cores': machine.cores()}
    options.json.write_text(
      json.dumps(about | {'table': table}, indent=2) + '\n'
    )
    draw(table, options.json.with_suffix('.png'))


if __name__ == '__main__':
  main()
