"""The privacy that is reported: the library against closed forms.

Of T flips by the same rule, what tells two masks apart is how many bits agree
with the one, Binomial(T, 1 - f) against Binomial(T, f).  So the least epsilon
of a delta can be computed exactly.  Where dp-accounting is not installed, the
tests that need its numbers are skipped; the others have a stand-in.
"""

import math
import sys
import types

import numpy as np
import pytest
import small_runs
from scipy import optimize, stats

import fedpm_jax as fp
from fedpm_jax import compressors, masks
from fedpm_jax.prng import keys
from fedpm_jax.reports import records
from fedpm_jax.simulation import privacy

LAYOUT = masks.Layout(('a/kernel',), ((4,),), (1,))
BIT, TOTAL = 'privacy/epsilon_bit', 'privacy/epsilon_bit_total'
SPENT = [(e, t) for e in (0.1, 0.5, 1.0, 2.0, 4.0) for t in (1, 2, 30, 200)]
CASES = pytest.mark.parametrize(('epsilon', 'rounds'), SPENT)


def compressor_of(epsilon):
  row = compressors.COMPRESSORS['randomised_response']
  return row(LAYOUT, epsilon=epsilon)


def optimum(f, rounds, delta=privacy.DELTA):
  """The least epsilon with this delta of T bits, each flipped with chance f."""
  agree = np.arange(rounds + 1)
  log_p = stats.binom.logpmf(agree, rounds, 1 - f)
  log_q = stats.binom.logpmf(agree, rounds, f)

  def excess(epsilon):
    above = np.maximum(log_p - log_q - epsilon, 0)
    return (np.exp(log_p) * -np.expm1(-above)).sum() - delta

  basic = rounds * math.log((1 - f) / f)
  if excess(basic) > 0 or excess(0) < 0:
    return basic if excess(0) > 0 else 0.0
  return optimize.brentq(excess, 0, basic, xtol=1e-9)


def renyi(f, rounds, delta=privacy.DELTA):
  """The bound of Renyi differential privacy (Mironov 2017), converted as in
  Canonne, Kamath, Steinke 2020, over many orders."""
  a = 1 + np.geomspace(1e-2, 1e4, 2000)
  divergence = np.logaddexp(
    a * np.log1p(-f) + (1 - a) * np.log(f),
    a * np.log(f) + (1 - a) * np.log1p(-f),
  ) / (a - 1)
  epsilons = (
    rounds * divergence
    + np.log1p(-1 / a)
    - (math.log(delta) + np.log(a)) / (a - 1)
  )
  return epsilons.min()


def advanced(epsilon, rounds, delta=privacy.DELTA):
  """Dwork, Rothblum, Vadhan 2010, theorem III.3."""
  spread = math.sqrt(2 * rounds * math.log(1 / delta))
  return epsilon * (spread + rounds * math.expm1(epsilon))


@CASES
def test_the_library_is_between_the_optimum_and_every_other_bound(
  epsilon, rounds
):
  pytest.importorskip('dp_accounting')
  compressor = compressor_of(epsilon)
  f = compressor.flips / masks.SCALE
  metrics = privacy.meter_of(compressor)(rounds)
  realised, total = metrics[BIT], metrics[TOTAL]
  assert realised == pytest.approx(math.log((1 - f) / f), rel=1e-12)
  least = optimum(f, rounds)
  assert least * (1 - 1e-6) <= total <= 1.01 * least
  assert total <= rounds * realised
  assert total <= 1.002 * renyi(f, rounds)
  assert total <= advanced(realised, rounds)


@CASES
def test_the_closed_forms_agree_with_each_other(epsilon, rounds):
  f = compressor_of(epsilon).flips / masks.SCALE
  least, realised = optimum(f, rounds), math.log((1 - f) / f)
  assert least <= min(renyi(f, rounds), advanced(realised, rounds))
  assert least <= rounds * realised
  if rounds == 1:  # hardly a delta to spare
    assert least == pytest.approx(realised, rel=1e-3)


def test_the_optimum_is_that_of_all_outcomes():
  """Two rounds, by hand: the outcomes 00, 01, 10 and 11."""
  f, delta = 0.25, 0.1
  p = np.array([0.75 * 0.75, 0.75 * 0.25, 0.25 * 0.75, 0.25 * 0.25])
  q = p[::-1]
  epsilon = optimum(f, 2, delta)
  assert np.maximum(p - math.exp(epsilon) * q, 0).sum() == pytest.approx(delta)


# The metrics of a run -------------------------------------------------------


@pytest.fixture
def library(monkeypatch):
  """A stand-in for dp-accounting that knows what it was asked for."""
  asked = []

  class Loss:
    def __init__(self, noise):
      self.noise = noise

    def self_compose(self, rounds):
      asked.append(rounds)
      return types.SimpleNamespace(
        get_epsilon_for_delta=lambda delta: optimum(
          self.noise / 2, rounds, delta
        )
      )

  def from_randomized_response(
    noise, buckets, *, value_discretization_interval
  ):
    assert buckets == 2
    assert value_discretization_interval > 0
    return Loss(noise)

  parts = ('dp_accounting', 'pld', 'privacy_loss_distribution')
  for i in range(3):
    name = '.'.join(parts[: i + 1])
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
  sys.modules[name].from_randomized_response = from_randomized_response
  return asked


def private(**changes):
  return small_runs.small(
    **{
      'model': 'lenet',
      'num_clients': 5,
      'clients_per_round': 2,
      'wire.compressor': 'randomised_response',
      'randomised_response.epsilon': 2.0,
      'wire.uplink': 'per_level',
      'wire.private_randomness': True,
    }
    | changes
  )


def test_a_run_reports_what_its_most_frequent_client_has_spent(library):
  run, counts = fp.Experiment(private()), np.zeros(5, int)
  f = compressor_of(2.0).flips / masks.SCALE
  for t in range(6):
    for client in keys.cohort(0, t, num_clients=5, clients_per_round=2):
      counts[client] += 1
    if t in (2, 3):
      # As after a restart: it knows of the rounds before.
      run.set_state(run.state, t + 1)
      continue
    row = run.run_round().metrics
    assert library[-1] == counts.max()
    assert row[BIT] == pytest.approx(math.log((1 - f) / f))
    assert row[TOTAL] == pytest.approx(optimum(f, counts.max()))
    assert {BIT, TOTAL} <= set(row) <= set(records.UNITS)
    assert 'mask/density' not in row  # What is sent is not the mask.
    assert 0.4 < row['uplink/bpp_wire'] < 1.1
  assert counts.max() < 6


@pytest.fixture
def no_library(monkeypatch):
  monkeypatch.setitem(sys.modules, 'dp_accounting', None)
  monkeypatch.setitem(sys.modules, privacy.LIBRARY, None)


def test_without_flips_nothing_is_counted_and_nothing_is_needed(no_library):
  assert privacy.meter_of(compressors.COMPRESSORS['bernoulli'](LAYOUT)) is None


def test_a_missing_library_is_told_with_the_command_that_gets_it(no_library):
  with pytest.raises(ValueError, match="pip install 'dp-accounting==0") as told:
    fp.Experiment(private())
  assert '\n' not in str(told.value)
