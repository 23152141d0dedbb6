"""The authors' FedPM and ours on the same task: do they agree?

    python benchmarks/parity.py --official=CHECKOUT --python=... \\
        --task mnist --seeds 0 1 2 --data-dir=... --out=FOLDER

Both train from the same images, client by client, with the switches of the
authors' code (`--config=mnist:official`).  Weights, first scores, the order of
examples and masks are random in each, so that single runs differ: compared are
means over the seeds, in standard errors of their difference.  Where two programs
are the same in law, a figure lies within two of them in about nine rounds of
ten with three seeds each, and neighbouring rounds are not independent.

Accuracy is of one sampled mask, theirs a fresh one for each batch of 128 images.
The other figures are those of `workers/parity_figures.py`.

A run of theirs is a process of its own, with `--python` that has PyTorch; rows
are written to --out as they come, and what is there is not run again.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

import fedpm_jax as fp
from fedpm_jax.experiments import recipes
from fedpm_jax.system import allocator, files

WORKERS = pathlib.Path(__file__).parent / 'workers'
sys.path.append(str(WORKERS))
import parity_figures  # noqa: E402 (after the path)

WHO = ('ours', 'theirs')
FIGURES = ('accuracy', 'theta_mean', 'theta_spread', 'bpp_prior')
_MNIST = {'data.name': 'mnist', 'model': 'conv4', 'local_epochs': 3}
TASKS = {
  # 30 local steps a round.
  'mnist': _MNIST | {'data.max_examples': 320, 'batch_size': 32, 'rounds': 12},
  # 108 of them; CIFAR-10 in the paper has 120.
  'mnist_small_batches': _MNIST
  | {'data.max_examples': 144, 'batch_size': 4, 'rounds': 12},
  # The paper's size; for a GPU.
  'cifar10': {
    'data.name': 'cifar10',
    'model': 'conv6',
    'batch_size': 128,
    'rounds': 20,
  },
}
TEST_IMAGES = 2000


def experiment(task: str, seed: int, data_dir: str | None) -> fp.Experiment:
  """Our run, with the switches of the authors' code."""
  config = recipes.apply(fp.config(), 'official')
  config.update_from_flattened_dict(TASKS[task])
  config.seed = seed
  config.evaluation.batch_size = 500
  if data_dir:
    config.data.dir = data_dir
  # Whole images of the test set, like theirs, fewer of them.
  full = fp.Experiment(config)
  data = full.dataset
  data = data._replace(
    x_test=data.x_test[:TEST_IMAGES], y_test=data.y_test[:TEST_IMAGES]
  )
  return fp.Experiment(config, dataset=data, clients=full.client_examples)


def our_rounds(run: fp.Experiment) -> Iterator[dict[str, float]]:
  """A row a round."""
  d = run.engine.method.network.layout.num_parameters
  theta = lambda: np.concatenate([t.ravel() for t in run.theta().values()])
  for _ in range(run.num_rounds):
    before, start = theta(), time.perf_counter()
    done = run.run_round(keep=True)
    seconds = time.perf_counter() - start
    packed = done.kept.symbols
    masks = np.unpackbits(packed, axis=1, count=d).astype(bool)
    row = parity_figures.row(before, masks, theta())
    row['accuracy'] = run.evaluate()['eval/accuracy_sampled']
    yield row | {'seconds': seconds}


def their_rounds(
  run: fp.Experiment, args: argparse.Namespace
) -> Iterator[dict[str, float]]:
  """A row a round, of the authors' code on the examples of our run."""
  data, config = run.dataset, run.config
  smallest = min(map(len, run.client_examples))
  examples = np.stack([ids[:smallest] for ids in run.client_examples])
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'data.npz'
    np.savez(
      path,
      images=data.x_train[examples],
      labels=data.y_train[examples],
      test_images=data.x_test,
      test_labels=data.y_test,
    )
    asked = {
      'checkout': args.official,
      'model': config.model,
      'epochs': config.local_epochs,
      'batch': config.batch_size,
      'rounds': config.rounds,
      'seed': config.seed,
      'threads': args.threads,
      'device': args.device,
      'data': str(path),
    }
    worker = str(WORKERS / 'official_rounds.py')
    with subprocess.Popen(
      [args.python, '-W', 'ignore', worker, json.dumps(asked)],
      stdout=subprocess.PIPE,
      text=True,
      env=allocator.environment(dict(os.environ)),  # They gain by it, too.
    ) as process:
      for line in process.stdout:
        if line.startswith('{'):
          sys.exit(f"the authors' code: {json.loads(line)['missing']}")
        if line.startswith('row '):
          yield json.loads(line[4:])
    if process.returncode:
      sys.exit("The authors' code has failed, see above.")


def run_one(who: str, task: str, seed: int, args: argparse.Namespace) -> list:
  """The rows of a run: read, or computed and written."""
  path = pathlib.Path(args.out) / f'{task}_{who}_seed{seed}.jsonl'
  if path.exists():
    return [json.loads(line) for line in path.read_text().splitlines()]
  run = experiment(task, seed, args.data_dir)
  rounds = our_rounds(run) if who == 'ours' else their_rounds(run, args)
  rows = []
  for row in rounds:
    rows.append({name: round(value, 5) for name, value in row.items()})
    print(who, task, f'seed {seed}', f'round {len(rows)}', rows[-1], flush=True)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_bytes(
    path, ''.join(json.dumps(row) + '\n' for row in rows).encode()
  )
  return rows


def compare(ours: list[float], theirs: list[float]) -> tuple[float, float]:
  """The difference of the means, and its standard error.

  Args:
    ours: a figure, of every seed.
    theirs: likewise, at least two.
  """
  variance = sum(statistics.variance(x) / len(x) for x in (ours, theirs))
  return statistics.mean(ours) - statistics.mean(theirs), variance**0.5


def table(runs: dict[str, list[list[dict[str, float]]]]) -> str:
  """Markdown: a line a round, then the mean of the last third.

  Args:
    runs: of 'ours' and 'theirs', the rows of every seed.
  """
  rounds = len(runs['ours'][0])
  last = rounds // 3
  lines = [
    '| round | '
    + ' | '.join(f'{f}: ours | theirs | SE' for f in FIGURES)
    + ' |',
    '| ---: |' + ' ---: | ---: | ---: |' * len(FIGURES),
  ]
  groups = [(str(t + 1), [t]) for t in range(rounds)]
  groups.append((f'last {last}', list(range(rounds - last, rounds))))
  for name, indices in groups:
    cells = [name]
    for figure in FIGURES:
      values = {
        who: [
          statistics.mean(rows[t][figure] for t in indices) for rows in many
        ]
        for who, many in runs.items()
      }
      difference, error = compare(values['ours'], values['theirs'])
      for who in ('ours', 'theirs'):
        mean, sd = statistics.mean(values[who]), statistics.stdev(values[who])
        cells.append(f'{mean:.4f} +- {sd:.4f}')
      cells.append(f'{difference / error:+.1f}' if error else '-')
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--official', help='a checkout of the official code')
  parser.add_argument('--python', default=sys.executable, help='with PyTorch')
  parser.add_argument('--task', nargs='+', choices=TASKS, default=['mnist'])
  parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
  parser.add_argument('--who', nargs='+', choices=WHO, default=list(WHO))
  parser.add_argument(
    '--data-dir', help='prepared data, see docs/configuration.md'
  )
  parser.add_argument('--device', default='cpu', help='of theirs: cpu or cuda')
  parser.add_argument('--threads', type=int, default=0, help='of theirs')
  parser.add_argument('--out', default='results/parity', help='a folder')
  args = parser.parse_args()
  for task in args.task:
    # Theirs first: what it needs and lacks is told before ours has trained.
    runs = {who: [] for who in reversed(WHO) if who in args.who}
    for seed in args.seeds:
      for who, rows in runs.items():
        rows.append(run_one(who, task, seed, args))
    if set(runs) != set(WHO) or len(args.seeds) < 2:
      continue  # There is nothing to compare, or no spread to compare with.
    text = table(runs)
    print(
      f'\n{task}: mean +- standard deviation over {len(args.seeds)} seeds\n'
    )
    print(text)
    files.write_bytes(pathlib.Path(args.out) / f'{task}.md', text.encode())


if __name__ == '__main__':
  main()
