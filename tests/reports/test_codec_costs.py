"""What codecs would have cost: the same bytes as in the run, and entropies."""

import numpy as np
import pytest
import toy
from scipy import special

from fedpm_jax import codecs
from fedpm_jax.codecs import base, dither
from fedpm_jax.reports import codec_costs


@pytest.fixture(scope='module')
def run():
  """Three rounds of the toy engine: (engine, state, kept, metrics)."""
  engine, rng = toy.engine(), np.random.default_rng(0)
  state, kept, rows = engine.init(), [], []
  for t in range(3):
    state, row, _, round_ = engine.run(
      state, toy.cohort(rng, [0, 1, 2, 3]), t, keep=True
    )
    kept.append(round_)
    rows.append(row)
  return engine, state, kept, rows


def test_real_costs_are_those_of_the_run(run):
  engine, _, kept, rows = run
  layout = engine.method.network.layout
  for round_, row in zip(kept, rows, strict=True):
    costs = codec_costs.costs(round_, engine.server.foresight, layout)
    real = {cost['codec']: cost['real'] for cost in costs}
    assert list(real) == [*codec_costs.UPLINK, *codec_costs.DOWNLINK]
    assert real['dither'] == pytest.approx(row['uplink/bpp_wire'], abs=0)
    assert real['theta_news'] == pytest.approx(row['downlink/bpp_wire'], abs=0)
    for cost in costs[: len(codec_costs.UPLINK)]:
      tensors = [cost[f'ideal/{name}'] for name in layout.names]
      total = np.dot(tensors, layout.sizes) / layout.num_parameters
      assert cost['ideal'] == pytest.approx(total)
      assert cost['ideal'] < cost['real']


def test_who_missed_a_round_is_charged_the_whole_theta():
  engine, rng = toy.engine(clients_per_round=2), np.random.default_rng(0)
  state, kept, rows = engine.init(), [], []
  for t, ids in enumerate(([0, 1], [1, 2], [0, 3])):
    state, row, _, round_ = engine.run(
      state, toy.cohort(rng, ids), t, keep=True
    )
    kept.append(round_)
    rows.append(row)
  layout = engine.method.network.layout
  for round_, row in zip(kept, rows, strict=True):
    costs = codec_costs.costs(round_, engine.server.foresight, layout)
    real = {cost['codec']: cost['real'] for cost in costs}
    assert real['theta_news'] == pytest.approx(row['downlink/bpp_wire'], abs=0)
  assert real['theta_news'] == real['theta_levels']  # nobody has the last theta


def test_ideal_code_lengths(rng):
  q = np.array([16384] * 4 + [49152] * 4, np.uint16)
  mask = np.array([1, 0, 0, 0, 1, 1, 1, 1], np.bool_)
  u = rng.integers(0, 65536, 8).astype(np.uint16)
  side = base.SideInformation(q, (4, 4), dither.guess(q, u))
  h = lambda p: -p * np.log2(p) - (1 - p) * np.log2(1 - p)
  expected = {
    'bitpack': [4, 4],
    'frequency': [
      -np.log2(5 / 8) - 3 * np.log2(3 / 8),
      -4 * np.log2(5 / 8),
    ],
    'per_tensor': [4 * h(0.25), 0],
    'prior': [2 - 3 * np.log2(0.75), -4 * np.log2(0.75)],
  }
  z = np.log(q / (65536.0 - q)) - np.log((u + 0.5) / (65535.5 - u))
  z /= dither.sigma(mask, side.guess)
  log2_p = special.log_ndtr(np.where(mask, z, -z)) / np.log(2)
  expected['dither'] = [-log2_p[:4].sum(), -log2_p[4:].sum()]
  for name, want in expected.items():
    got = codec_costs.ideal_bits(name, mask, side)
    np.testing.assert_allclose(got, want, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize('knows', [False, True])
@pytest.mark.parametrize('spread', [1, 40, 200])
def test_ideal_bits_of_a_theta_are_nearly_those_of_its_payload(
  rng, knows, spread
):
  """The payload has the levels and their counts besides."""
  sizes = (5_000, 45_000)
  levels = 100 + 200 * np.arange(spread)
  expected = rng.integers(0, spread, sum(sizes))
  moved = rng.random(sum(sizes)) < np.repeat([0.5, 0.1], sizes)
  index = np.where(moved, rng.integers(0, spread, sum(sizes)), expected)
  q = levels[index].astype(np.uint16)
  context = np.repeat([3, 1], sizes).astype(np.uint8)
  side = base.SideInformation(
    sizes=sizes,
    expected=base.Expected(levels[expected].astype(np.uint16), context),
  )
  name = 'theta_news' if knows else 'theta_levels'
  ideal = codec_costs.ideal_bits_of_theta(
    name, q, side.expected if knows else None, sizes
  )
  payload = 8 * len(codecs.CODECS[name].encode(q, side))
  assert ideal.sum() <= payload
  assert ideal.sum() > 0.97 * payload - 40 * spread - 200
  if knows and spread > 1:  # What moves less costs less.
    assert ideal[0] / sizes[0] > 2 * ideal[1] / sizes[1]


def test_bits_by_tensor_of_other_codecs_are_not_known(rng):
  q = rng.integers(1, 65536, 1000).astype(np.uint16)
  ideal = codec_costs.ideal_bits_of_theta
  assert ideal('theta_levels', q, None, (1000,)) is None  # 1000 levels
  assert ideal('raw', q, None, (1000,)) is None
  assert ideal('theta_raw', q, None, (400, 600)).tolist() == [6400, 9600]


def test_bits_by_tensor_are_those_of_the_codecs_of_the_run(run):
  engine, _, kept, rows = run
  layout = engine.method.network.layout
  for round_, row in zip(kept[1:], rows[1:], strict=True):
    up, down = codec_costs.by_tensor(
      round_, engine.server.foresight, engine.method
    )
    costs = codec_costs.costs(round_, engine.server.foresight, layout)
    (dither_,) = (cost for cost in costs if cost['codec'] == 'dither')
    assert up / layout.sizes == pytest.approx(
      [dither_[f'ideal/{name}'] for name in layout.names]
    )
    assert 0 < down.sum() < row['downlink/bpp_wire'] * layout.num_parameters
