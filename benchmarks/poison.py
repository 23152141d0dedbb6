"""What poisoned masks do to a run, and what a bound on their distance saves.

    nice python benchmarks/poison.py --rows=results/poison.jsonl > table.md

Some clients of the digits, the default configuration, send well-formed masks
that are no result of honest training (`KINDS`), each of them in every round.
Only their symbols are changed, on the way to the wire: messages are sealed,
opened and judged as ever.  Prints a table of what is in `--rows`, and first
makes the rows that are missing there, an hour or so.

Two runs that are the same to the bit are made once.  With the bound, a run that
left nobody out is the run without it.  And while every mask of the kinds of
`FAR` is left out, it does not matter which of them the attackers send: the run
measures the distances of all of these kinds and stands for each of them.
"""

import argparse
import contextlib
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from absl import logging

import fedpm_jax as fp
from fedpm_jax.codecs import base
from fedpm_jax.experiments import build
from fedpm_jax.protocol import robust
from fedpm_jax.simulation import rounds
from fedpm_jax.system import machine

CLIENTS, ROUNDS, BOUND = 10, 12, 0.02
# Neither codec changes a number, and these two are quick with any mask.
# `theta_news` makes the server keep whose masks counted.
SETTINGS = {
  'rounds': ROUNDS,
  'num_clients': CLIENTS,
  'clients_per_round': CLIENTS,
  'wire.uplink': 'bitpack',
  'wire.downlink': 'theta_news',
  'evaluation.masks': 5,
}


class Seen(NamedTuple):
  """What an attacker makes its mask of.

  Attributes:
    mask: bool `[d]`, what it has trained.
    first: bool `[d]`, what the first attacker has trained.
    q: uint16 `[d]`, the theta that the round started from.
    sizes: of the tensors.
    draw: random numbers.
  """

  mask: np.ndarray
  first: np.ndarray
  q: np.ndarray
  sizes: tuple[int, ...]
  draw: np.random.Generator


def within_the_bound(seen: Seen) -> np.ndarray:
  """The last bits of every tensor inverted, as many as the bound allows."""
  split = lambda flat: base.split(flat, seen.sizes)
  parts = [
    _inverted_within(*pair)
    for pair in zip(split(seen.mask), split(seen.q), strict=True)
  ]
  return np.concatenate(parts)


def _inverted_within(mask: np.ndarray, q: np.ndarray) -> np.ndarray:
  distance = robust.distance_from(q, (q.size,))

  def inverted(count: int) -> np.ndarray:
    return mask ^ (np.arange(mask.size) >= mask.size - count)

  low, high = 0, mask.size + 1
  while high - low > 1:
    middle = (low + high) // 2
    fits = distance(np.packbits(inverted(middle))) <= BOUND
    low, high = (middle, high) if fits else (low, middle)
  return inverted(low)


KINDS: dict[str, Callable[[Seen], np.ndarray]] = {
  'none': lambda seen: seen.mask,
  'ones': lambda seen: np.ones_like(seen.mask),
  'inverted': lambda seen: ~seen.mask,
  'coins': lambda seen: seen.draw.random(seen.q.size) < 0.5,
  # From here on all attackers send one mask.  A one where theta is below half:
  'against theta': lambda seen: seen.q < 2**15,
  # The first attacker's; all of them have the labels 9 - c in place of c.
  'wrong labels': lambda seen: seen.first,
  # But not here: each changes its own mask, in the same places.
  'within the bound': within_the_bound,
}
FAR = ('ones', 'inverted', 'coins', 'against theta')
SHARES = (0.1, 0.2, 0.3, 0.4)
# (split, kind, share of attackers)
CELLS = [
  ('iid', 'none', 0.0),
  ('c_max', 'none', 0.0),
  *itertools.product(('iid',), list(KINDS)[1:], SHARES),
  ('c_max', 'against theta', 0.3),
  ('c_max', 'wrong labels', 0.3),
]


class Attack:
  """Changes what attackers send, and keeps what it sees.

  Attributes:
    honest: distances of the honest clients' masks.
    poisoned: distances of attackers' masks, by kind.
  """

  def __init__(self, kinds: Sequence[str], attackers: int, seed: int):
    """Nothing happens before `on`.

    Args:
      kinds: the first is sent; the distances of the others are only measured.
      attackers: the first so many clients.
      seed: of what attackers draw.
    """
    self.honest: list[float] = []
    self.poisoned: dict[str, list[float]] = {kind: [] for kind in kinds}
    self._attackers = attackers
    self._draw = np.random.default_rng(seed)

  @contextlib.contextmanager
  def on(self, engine: rounds.Engine) -> Iterator[None]:
    """Meanwhile this engine's uplink carries the attackers' masks."""
    carry, sizes = engine.link.uplink, engine.method.network.layout.sizes

    def uplink(pool, arriving, payload, ids, *more):
      return carry(
        pool, self._changed(arriving, payload, ids, sizes), payload, ids, *more
      )

    with mock.patch.object(engine.link, 'uplink', uplink):
      yield

  def _changed(self, arriving, q, ids, sizes) -> Iterator[np.ndarray]:
    distance, first = robust.distance_from(q, sizes), None
    for client, symbols in zip(ids.tolist(), arriving, strict=False):
      if client >= self._attackers:
        self.honest.append(distance(symbols))
        yield symbols
        continue
      mask = np.unpackbits(symbols, count=q.size).astype(np.bool_)
      first = mask if first is None else first
      seen = Seen(mask, first, q, sizes, self._draw)
      sent = [np.packbits(KINDS[kind](seen)) for kind in self.poisoned]
      for found, one in zip(self.poisoned.values(), sent, strict=True):
        found.append(distance(one))
      yield sent[0]


@functools.lru_cache(maxsize=1)
def experiment(
  split: str, seed: int, bound: float, wrong_labels: int
) -> fp.Experiment:
  """The run of so many clients with wrong labels; the first ones."""
  config = fp.config('digits')
  config.update_from_flattened_dict(SETTINGS)
  config.update_from_flattened_dict(
    {'seed': seed, 'data.partition': split, 'robust.max_distance': bound}
  )
  data = build.dataset(config)
  clients = build.clients(config, data.y_train)
  labels = data.y_train.copy()
  for examples in clients[:wrong_labels]:
    labels[examples] = data.num_classes - 1 - labels[examples]
  data = data._replace(y_train=labels)
  return fp.Experiment(config, dataset=data, clients=clients)


def rows_of(
  split: str, kind: str, share: float, seed: int, bound: float
) -> list[dict[str, Any]]:
  """The rows that one run gives, see the docstring of the file."""
  attackers, begun = round(share * CLIENTS), time.monotonic()
  kinds = FAR if bound and kind in FAR else (kind,)
  wrong = attackers if kind == 'wrong labels' else 0
  run = experiment(split, seed, bound, wrong)
  run.set_state(run.engine.init(), 0)
  attack = Attack(kinds, attackers, seed)
  left_out = np.zeros(CLIENTS, np.int64)
  with attack.on(run.engine):
    for _ in range(ROUNDS):
      run.run_round()
      left_out += ~np.asarray(run.state.held.members)
  found = run.evaluate()
  row = {
    'split': split,
    'share': share,
    'seed': seed,
    'bound': bound,
    'sampled': found['eval/accuracy_sampled_mean'],
    'mean': found['eval/accuracy_mean'],
    'honest_left_out': int(left_out[attackers:].sum()),
    'honest_messages': ROUNDS * (CLIENTS - attackers),
    'poisoned_left_out': int(left_out[:attackers].sum()),
    'poisoned_messages': ROUNDS * attackers,
    'honest_farthest': max(attack.honest),
    'seconds': time.monotonic() - begun,
  }
  rows = []
  for name, distances in attack.poisoned.items():
    nearest, farthest = min(distances, default=0), max(distances, default=0)
    if len(kinds) > 1 and nearest <= bound:
      raise RuntimeError(f'{row}: a mask of {name} is not left out.')
    distances = {'poisoned_nearest': nearest, 'poisoned_farthest': farthest}
    rows.append({'kind': name} | row | distances)
  if bound and not left_out.any():
    rows += [each | {'bound': 0.0} for each in rows]
  return rows


def name_of(row: dict[str, Any]) -> tuple:
  """Which run it is of."""
  return tuple(row[k] for k in ('split', 'kind', 'share', 'bound', 'seed'))


def table(rows: list[dict[str, Any]]) -> str:
  """Means over the seeds, +- the standard deviation over them."""
  lines = [f'| {" | ".join(COLUMNS)} |', '| --- ' * len(COLUMNS) + '|']
  for cell in CELLS:
    plain, bounded = (
      [row for row in rows if name_of(row)[:4] == (*cell, bound)]
      for bound in (0.0, BOUND)
    )
    if plain and bounded:
      lines.append(f'| {" | ".join(_cells(cell, plain, bounded))} |')
  return '\n'.join(lines)


COLUMNS = (
  *('split', 'attack', 'attackers'),
  *('sampled, no bound', 'mean, no bound', 'sampled, bound', 'mean, bound'),
  *('poisoned left out', 'honest left out'),
  *('distance, poisoned', 'distance, honest'),
)


def _cells(
  cell: tuple, plain: list[dict[str, Any]], bounded: list[dict[str, Any]]
) -> Iterator[str]:
  split, kind, share = cell
  yield from (split, kind, f'{share:.0%}')
  for rows, metric in itertools.product((plain, bounded), ('sampled', 'mean')):
    yield _spread([row[metric] for row in rows])
  for who in ('poisoned', 'honest'):
    out, all_ = (
      sum(row[f'{who}_{what}'] for row in bounded)
      for what in ('left_out', 'messages')
    )
    yield f'{out} of {all_}'
  nearest = [row['poisoned_nearest'] for row in bounded]
  farthest = [row['poisoned_farthest'] for row in bounded]
  attacked = kind != 'none'
  yield f'{min(nearest):.3f} to {max(farthest):.3f}' if attacked else ''
  yield f'at most {max(row["honest_farthest"] for row in bounded):.4f}'


def _spread(values: list[float]) -> str:
  spread = f' +- {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
  return f'{np.mean(values):.3f}{spread}'


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--rows', type=pathlib.Path, required=True)
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
  args = parser.parse_args()
  logging.set_verbosity(logging.ERROR)  # A line for every round otherwise.
  machine.keep_compiled_programs()
  known = []
  if args.rows.exists():
    known = [json.loads(line) for line in args.rows.read_text().splitlines()]
  # Runs with the bound come first, because some spare the run without it.
  for seed, bound, cell in itertools.product(args.seeds, (BOUND, 0.0), CELLS):
    if (*cell, bound, seed) in map(name_of, known):
      continue
    new = rows_of(*cell, seed=seed, bound=bound)
    known += new
    with open(args.rows, 'a') as file:
      file.writelines(f'{json.dumps(row)}\n' for row in new)
  print(table(known))


if __name__ == '__main__':
  main()
