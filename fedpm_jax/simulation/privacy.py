"""How much privacy is spent: the composition of randomised response.

Per bit and round it is epsilon_bit, see `compressors.randomised_response`,
which says what this does not protect.  A client that took part in T rounds has
sent T bits at each position.  What they give away together is (epsilon,
delta), with

    basic composition   epsilon = T epsilon_bit, delta = 0

or less, for a delta above 0, by the privacy loss distribution, which
dp-accounting composes.  It is rounded up, and within 1 % of the optimum, which
has a closed form here: tests/simulation/test_privacy.py.

Two things of dp-accounting 0.6.0 are not used.  Its `PLDAccountant` composes a
`RandomizedResponseDpEvent` once, whatever the count, so it says T = 1 for any
T.  Its `RdpAccountant` is right but 5 % higher where T is large.  The accountant
of Flower (1.42) knows Gaussian noise only.

References: Dwork, McSherry, Nissim, Smith, "Calibrating noise to sensitivity in
private data analysis", TCC 2006; Kairouz, Oh, Viswanath, "The composition
theorem for differential privacy", ICML 2015 (the optimum); Koskela, Jaelkoe,
Honkela, "Computing tight differential privacy guarantees using FFT", AISTATS
2020 (privacy loss distributions).
"""

import importlib
from collections.abc import Callable

from fedpm_jax import masks
from fedpm_jax.compressors import randomised_response
from fedpm_jax.compressors.base import Compressor

DELTA = 1e-5
_STEPS = 1000  # into which the composition divides epsilon_bit
LIBRARY = 'dp_accounting.pld.privacy_loss_distribution'


def meter_of(
  compressor: Compressor,
) -> Callable[[int], dict[str, float]] | None:
  """The metrics `privacy/...`, a function of a client's number of rounds.

  Args:
    compressor: of the method.

  Returns:
    (rounds, at least 1) -> metrics; None where the compressor flips no bits.

  Raises:
    ValueError: it flips bits, and dp-accounting is not installed.
  """
  flips = compressor.flips
  if not flips:
    return None
  try:
    library = importlib.import_module(LIBRARY)
  except ImportError as error:
    raise ValueError(
      'A compressor that flips bits has its privacy counted by dp-accounting,'
      f" which cannot be imported ({error}): pip install 'dp-accounting==0.6.*'."
    ) from error
  epsilon = randomised_response.epsilon_of(flips)
  # The library's mechanism draws a bit anew, from fair ones, in 2 f of cases.
  one = library.from_randomized_response(
    2 * flips / masks.SCALE,
    2,
    value_discretization_interval=epsilon / _STEPS,
  )

  def metrics(rounds):
    composed = one.self_compose(rounds).get_epsilon_for_delta(DELTA)
    # Rounding up may pass the sum of the epsilons, which holds without a delta.
    total = min(float(composed), rounds * epsilon)
    return {'privacy/epsilon_bit': epsilon, 'privacy/epsilon_bit_total': total}

  return metrics
