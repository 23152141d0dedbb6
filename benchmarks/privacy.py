"""What randomised response costs: accuracy and bits against epsilon.

    pip install 'dp-accounting==0.6.*'
    python benchmarks/privacy.py [--epsilons inf 4 2 1 0.5] [--seeds 0 1 2]
        [--set fedpm.theta_clip=0.1 ...] [--workdir=runs/privacy]

Runs the default experiment, configs/digits.py, with the uplink 'per_level', and
prints a line of a table for each epsilon.  inf is plain FedPM, the compressor
'bernoulli'.  Accuracies are of rounds 20, 25 and 30, sampled ones of 10 masks;
bits are of the last 10 rounds, bits per parameter and client.  Mean and
standard deviation are over the seeds.  A second table has the masks of one more
round of the first seed, coded in each way that knows nothing of a client:
'prior, theta' is the code that randomised response refuses, 'prior, its law'
the same code with the true probability of a one, f + (1 - 2 f) theta.  A second
call goes on where the first one was stopped.
"""

import argparse
import math
import pathlib

import numpy as np

import fedpm_jax as fp
from fedpm_jax.codecs import CODECS, SideInformation
from fedpm_jax.experiments import config as configs
from fedpm_jax.reports import records
from fedpm_jax.system import machine

SAMPLED, MEAN = 'eval/accuracy_sampled_mean', 'eval/accuracy_mean'
UP, DOWN = 'uplink/bpp_wire', 'downlink/bpp_wire'
TOTAL = 'privacy/epsilon_bit_total'
COLUMNS = (
  *('epsilon', 'flipped', 'sampled masks', 'mean network'),
  *('up, bpp', 'down, bpp', 'epsilon of a position, all rounds'),
)


CODES = ('bitpack', 'frequency', 'per_tensor', 'per_level')


def configuration(epsilon: float, seed: int, rounds: int, changes: list[str]):
  """Of one run.

  Args:
    epsilon: of a bit and round; infinity is plain FedPM.
    seed: the experiment's.
    rounds: how many.
    changes: such as 'fedpm.theta_clip=0.1'.
  """
  config = fp.config('digits')
  config.update_from_flattened_dict(
    {
      'seed': seed,
      'rounds': rounds,
      'evaluation.every': 5,
      'evaluation.masks': 10,
      'wire.uplink': 'per_level',
      'wire.private_randomness': True,
      'wire.keep_every': 0,
    }
  )
  if math.isfinite(epsilon):
    config.wire.compressor = 'randomised_response'
    config.randomised_response.epsilon = epsilon
  for change in changes:
    key, _, value = change.partition('=')
    configs.override(config, key, value)
  return config


def figures(rows: list[dict]) -> dict[str, float]:
  """What the table tells of one run."""
  evaluated = [row for row in rows if MEAN in row][-3:]
  mean = lambda name, of: float(np.mean([row[name] for row in of]))
  return {
    SAMPLED: mean(SAMPLED, evaluated),
    MEAN: mean(MEAN, evaluated),
    UP: mean(UP, rows[-10:]),
    DOWN: mean(DOWN, rows[-10:]),
    TOTAL: rows[-1].get(TOTAL, math.inf),
  }


def line(epsilon: float, runs: list[dict[str, float]]) -> str:
  """A line of the table, of the seeds' figures."""
  cells = [f'{epsilon:g}', f'{1 / (1 + math.exp(epsilon)):.3f}']
  for name, digits in ((SAMPLED, 3), (MEAN, 3), (UP, 4), (DOWN, 3)):
    values = [run[name] for run in runs]
    spread = np.std(values, ddof=1) if len(values) > 1 else math.nan
    cells.append(f'{np.mean(values):.{digits}f} +- {spread:.{digits}f}')
  cells.append(f'{runs[0][TOTAL]:.4g}')
  return f'| {" | ".join(cells)} |'


def codes(config, folder: pathlib.Path) -> dict[str, float]:
  """Bits per parameter of the round after the last one, by code; no headers.

  Args:
    config: of a finished run.
    folder: where it is.
  """
  run = fp.Experiment(config)
  engine, (state, round_idx, *_) = run.engine, run.saved_state(folder)
  q = engine.server.payload(state.server)
  compressor = engine.method.compressor
  law = compressor.flips + (1 - 2 * compressor.flips / 65536) * q
  side = SideInformation(q=q, sizes=compressor.sizes)
  known = {name: (CODECS[name], side) for name in CODES}
  known['prior, theta'] = CODECS['prior'], side
  known['prior, its law'] = (
    CODECS['prior'],
    side._replace(q=np.round(law).astype(np.uint16)),
  )
  cohort = run.cohort(round_idx)
  training = engine.trainer.prepare(q, state.clients, cohort, round_idx)
  total = dict.fromkeys(known, 0)
  for _, packed in zip(cohort.ids, training.symbols(), strict=False):
    mask = np.unpackbits(packed, count=q.size).view(np.bool_)
    for name, (codec, of_codec) in known.items():
      total[name] += len(codec.encode(mask, of_codec))
  return {name: 8 * n / len(cohort.ids) / q.size for name, n in total.items()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument(
    '--epsilons', type=float, nargs='+', default=[math.inf, 4, 2, 1, 0.5]
  )
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
  parser.add_argument('--rounds', type=int, default=30)
  parser.add_argument('--set', nargs='+', default=[], metavar='KEY=VALUE')
  parser.add_argument(
    '--workdir', type=pathlib.Path, default=pathlib.Path('runs/privacy')
  )
  args = parser.parse_args()
  machine.keep_compiled_programs()
  print(f'| {" | ".join(COLUMNS)} |\n{"| --- " * len(COLUMNS)}|')
  coded = {}
  for epsilon in args.epsilons:
    runs = []
    for seed in args.seeds:
      config = configuration(epsilon, seed, args.rounds, args.set)
      name = ','.join([f'epsilon={epsilon:g}', *args.set, f'seed={seed}'])
      folder = args.workdir / name
      fp.train(config, folder)
      runs.append(figures(records.read_rows(folder / 'metrics.jsonl')))
      if epsilon not in coded:
        coded[epsilon] = codes(config, folder)
    print(line(epsilon, runs), flush=True)
  names = list(next(iter(coded.values())))
  print(f'\n| epsilon | {" | ".join(names)} |')
  print('| --- ' * (len(names) + 1) + '|')
  for epsilon, bits in coded.items():
    cells = [f'{bits[name]:.4f}' for name in names]
    print(f'| {epsilon:g} | {" | ".join(cells)} |')


if __name__ == '__main__':
  main()
