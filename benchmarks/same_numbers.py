"""Whether two checkouts compute the same, to the bit.

Trains every method of configs/methods.py for a few rounds, and two more
configurations, partial participation and c_max; once with each checkout, in a
process of its own.  Compared are all messages in both directions, the symbols
that were kept, theta (or the weights) after the last round, the model file and
all metrics but times.

    python benchmarks/same_numbers.py --before=CHECKOUT [--rounds=3]

A refactoring may change none of them.  It is no test, because it needs an older
checkout.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORKER = pathlib.Path(__file__).with_name('workers') / 'same_numbers.py'
PARTIAL = {'num_clients': 10, 'clients_per_round': 3}
C_MAX = {'data.partition': 'c_max', 'data.classes_per_client': 2}
EXTRAS = {'partial': PARTIAL, 'c_max': C_MAX}


def digests(checkout: pathlib.Path, rounds: int) -> dict[str, dict[str, str]]:
  """What a checkout computes: {run: {what: digest}}."""
  with tempfile.TemporaryDirectory() as folder:
    task = {'rounds': rounds, 'extras': EXTRAS, 'folder': folder}
    subprocess.run(
      [sys.executable, str(WORKER), json.dumps(task)],
      cwd=checkout,
      check=True,
      stdout=subprocess.DEVNULL,
    )
    return json.loads((pathlib.Path(folder) / 'digests.json').read_text())


def differences(before: dict, after: dict) -> list[str]:
  """Every run and thing in which the two differ."""
  return [
    f'{run}: {what}'
    for run in sorted(before.keys() | after.keys())
    for what in sorted(before.get(run, {}).keys() | after.get(run, {}).keys())
    if before.get(run, {}).get(what) != after.get(run, {}).get(what)
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--before', type=pathlib.Path, required=True)
  parser.add_argument('--after', type=pathlib.Path, default=ROOT)
  parser.add_argument('--rounds', type=int, default=3)
  args = parser.parse_args()
  before = digests(args.before, args.rounds)
  after = digests(args.after, args.rounds)
  for run, found in after.items():
    whole = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    print(f'{run:20} {len(found)} things  {whole.hexdigest()[:16]}')
  different = differences(before, after)
  print('\n'.join(different) or f'{len(after)} runs: the same to the bit.')
  sys.exit(bool(different))


if __name__ == '__main__':
  main()
