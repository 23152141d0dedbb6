"""What a run takes of the disk, known before its first round.

Which rounds' masks are kept follows from the configuration.  A run that goes on,
or that is made longer, keeps what it would have kept in one piece.
"""

import pathlib
from typing import NamedTuple

import jax

from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.reports import archive


class Kept(NamedTuple):
  """The rounds whose masks are kept.

  Attributes:
    rounds: 0-based, in order.
    wanted: how many rounds the configuration asks for.
    round_bytes: of one of them, at most.
  """

  rounds: tuple[int, ...]
  wanted: int
  round_bytes: int


def plan(
  num_rounds: int, *, every: int, round_bytes: int, most_bytes: int
) -> Kept:
  """The rounds whose masks are kept: each n-th one, and the last one.

  Where these are too much, n is doubled until they fit, so that a longer run
  keeps a part of what a shorter one has kept.  The first of them stays, because
  the first rounds differ most from the others.

  Args:
    num_rounds: of the whole run.
    every: n, or 0 to keep nothing.
    round_bytes: of one round, at most.
    most_bytes: of all of them together.
  """
  if not every:
    return Kept((), 0, round_bytes)
  each = lambda n: {*range(n - 1, num_rounds, n), num_rounds - 1}
  wanted = each(every)
  chosen, stride = wanted, every
  while len(chosen) * round_bytes > most_bytes and stride < num_rounds:
    stride *= 2
    chosen = each(stride) | {min(wanted)}
  if len(chosen) * round_bytes > most_bytes:
    chosen = {num_rounds - 1} if round_bytes <= most_bytes else set()
  return Kept(tuple(sorted(chosen)), len(wanted), round_bytes)


def kept(run: Experiment) -> Kept:
  """The rounds whose masks a run keeps."""
  config = run.config
  sizes = archive.Sizes(
    run.engine.method.network.layout.num_parameters,
    config.num_clients,
    config.clients_per_round,
    run.num_rounds,
  )
  return plan(
    run.num_rounds,
    every=config.wire.keep_every if run.keeps_masks else 0,
    round_bytes=archive.num_bytes(sizes),
    most_bytes=config.wire.keep_mb * 10**6,
  )


def make_room(workdir: pathlib.Path, kept: Kept) -> None:
  """Removes what a shorter run has kept and this one has no room for."""
  if len(kept.rounds) < kept.wanted:
    archive.keep_only(workdir, kept.rounds)


def told(run: Experiment, kept: Kept) -> str:
  """How much disk a run takes at most, in a sentence."""
  leaves = jax.tree.leaves(jax.eval_shape(run.first_state))
  state = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  # One more while it is written, before the oldest goes.
  checkpoints = run.config.checkpoint.keep + 1
  text = f'At most {_amount(checkpoints * state)} of disk for checkpoints'
  if not kept.wanted:
    return f'{text}.'
  if not kept.rounds:
    return (
      f'{text}; no masks are kept, because those of one round take'
      f' {_amount(kept.round_bytes)} and wire.keep_mb is'
      f' {run.config.wire.keep_mb}.'
    )
  count = len(kept.rounds)
  rounds = f'{count} rounds' if count > 1 else 'one round'
  text += f', {_amount(count * kept.round_bytes)} for the masks of {rounds}'
  if count < kept.wanted:
    text += (
      f', not of {kept.wanted} as wire.keep_every says, because wire.keep_mb is'
      f' {run.config.wire.keep_mb}'
    )
  return f'{text}.'


def _amount(num_bytes: int) -> str:
  """In kB, MB or GB."""
  for unit, name in ((1e9, 'GB'), (1e6, 'MB')):
    if num_bytes >= unit:
      return f'{num_bytes / unit:.1f} {name}'
  return f'{num_bytes / 1e3:.1f} kB'
