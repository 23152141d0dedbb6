"""How the learning rate changes from round to round.

A schedule gives a factor for each round, on all steps of the optimiser; within
a round the rate is constant.  A new schedule is a function and a row.
"""

import math
from collections.abc import Callable

Factor = Callable[[int], float]


def cosine(rounds: int, *, final: float = 0.0) -> Factor:
  """From 1 down to `final` along half a cosine.

  Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts",
  ICLR 2017, without restarts.

  Args:
    rounds: of the run.
    final: the factor that the last round comes close to, in [0, 1].

  Raises:
    ValueError: `final` lies elsewhere.
  """
  if not 0 <= final <= 1:
    raise ValueError(f'final must lie in [0, 1], got {final}.')

  def factor(round_idx: int) -> float:
    share = 0.5 * (1 + math.cos(math.pi * min(round_idx / rounds, 1)))
    return final + (1 - final) * share

  return factor


def step(rounds: int, *, every: int = 50, factor: float = 0.5) -> Factor:
  """Multiplied by `factor` after each `every` rounds.

  Args:
    rounds: of the run; not used.
    every: rounds between two steps, at least 1.
    factor: positive.

  Raises:
    ValueError: a number outside the range above.
  """
  del rounds
  if every < 1 or not 0 < factor < math.inf:
    raise ValueError(
      'every must be at least 1 and factor positive and finite, got'
      f' {every} and {factor}.'
    )
  return lambda round_idx: factor ** (round_idx // every)


def constant(rounds: int) -> None:
  """Always 1: the optimiser's steps are not touched."""
  del rounds


# (rounds, **options) -> the factor by round, or None where it is always 1
SCHEDULES: dict[str, Callable[..., Factor | None]] = {
  'constant': constant,
  'cosine': cosine,
  'step': step,
}

# Their factors do not depend on the number of rounds, so a run may grow.
OF_ANY_LENGTH = ('constant', 'step')
