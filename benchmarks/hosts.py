"""What it costs to share a run between hosts, on the cores of one machine.

    python benchmarks/hosts.py --hosts=1,2 --rounds=10 --json FILE

Each run is the program itself with N processes.  Every process has as many
devices as there are cores for it, so all runs use the same cores; with more
hosts than cores, the table shows the structure and no speed.  Runs alternate,
and figures are medians over their rounds but the first two, which compile.
"""

import argparse
import json
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile

from fedpm_jax.reports import records
from fedpm_jax.system import machine, provenance

_ROOT = pathlib.Path(__file__).parents[1]
_COMPILES = 2  # rounds


def run(hosts: int, folder: pathlib.Path, flags: list[str]) -> dict[str, float]:
  """Median seconds of a round, and the memory of the largest process in MB."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  devices = max(machine.cores() // hosts, 1)
  command = [
    sys.executable,
    '-m',
    'fedpm_jax.train',
    f'--workdir={folder}',
    *flags,
  ]
  joined = [f'--coordinator=localhost:{port}', f'--num_hosts={hosts}']
  environment = os.environ | {'JAX_NUM_CPU_DEVICES': str(devices)}
  processes = []
  for index in range(hosts):
    own = [*command, *joined, f'--host={index}'] if hosts > 1 else command
    processes.append(
      subprocess.Popen(
        own, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL
      )
    )
  memory = []
  for process in processes:
    _, status, usage = os.wait4(process.pid, 0)
    if status:
      raise SystemExit(f'A host ended with status {status}.')
    memory.append(_kilobytes(usage) / 1000)
  rows = records.read_rows(folder / 'metrics.jsonl')[_COMPILES:]
  return {
    'round_s': statistics.median(row['time/round_s'] for row in rows),
    'clients_s': statistics.median(row['time/clients_s'] for row in rows),
    'largest_process_mb': max(memory),
  }


def _kilobytes(usage: resource.struct_rusage) -> int:
  return usage.ru_maxrss // (1024 if sys.platform == 'darwin' else 1)


def main() -> None:
  """Prints a table, and writes it where a file is named."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--hosts', default='1,2', help='how many, in turn')
  parser.add_argument('--config', default='digits')
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--json', type=pathlib.Path)
  options = parser.parse_args()
  flags = [f'--config={options.config}', f'--config.rounds={options.rounds}']
  counts = [int(count) for count in options.hosts.split(',')]
  found: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
  with tempfile.TemporaryDirectory() as folder:
    for repeat in range(options.repeats):
      for count in counts:
        where = pathlib.Path(folder) / f'{count}_{repeat}'
        found[count].append(run(count, where, flags))
  table = []
  print('hosts  round, s  of it training, s  to the first  largest process, MB')
  for count in counts:
    median = {
      name: statistics.median(each[name] for each in found[count])
      for name in found[count][0]
    }
    table.append({'hosts': count} | median)
    ratio = median['round_s'] / table[0]['round_s']
    print(
      f'{count:5}  {median["round_s"]:8.2f}  {median["clients_s"]:17.2f}'
      f'  {ratio:12.2f}  {median["largest_process_mb"]:19.0f}'
    )
  if options.json:
    about = provenance.describe() | {'cores': machine.cores(), 'flags': flags}
    options.json.write_text(
      json.dumps(about | {'table': table, 'runs': found}, indent=2) + '\n'
    )


if __name__ == '__main__':
  main()
