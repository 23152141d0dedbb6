"""`dither` and `theta_news`: codes that live on what the receiver knows."""

import contextlib

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import special

from fedpm_jax import codecs
from fedpm_jax.codecs import base, differences, dither, theta_news, varint
from fedpm_jax.prng import keys
from fedpm_jax.protocol import wire

D = 60_000


def logit(q):
  return np.log(q / (65536.0 - q))


def quantised(logits):
  theta = 65536 * special.expit(logits)
  return np.clip(np.rint(theta), 1, 65535).astype(np.uint16)


def drifted(rng, *, drift, spread=3.0, masks=1):
  """theta, K clients' dithers and masks after a normal drift of their logits."""
  q = quantised(spread * rng.standard_normal(D))
  u = rng.integers(0, 65536, (masks, D)).astype(np.uint16)
  q_k = quantised(logit(q) + drift * rng.standard_normal((masks, D)))
  return q, u, u < q_k


def encoded(mask, q, u):
  side = base.SideInformation(q, (D,), dither.guess(q, u))
  payload = codecs.CODECS['dither'].encode(mask, side)
  np.testing.assert_array_equal(
    codecs.CODECS['dither'].decode(payload, D, side), mask
  )
  return payload


@pytest.mark.parametrize('drift', [0.1, 0.35, 1.0, 3.0])
def test_dither_reaches_the_code_length_of_its_model(rng, drift):
  q, (u,), (mask,) = drifted(rng, drift=drift)
  z = (logit(q) - np.log((u + 0.5) / (65535.5 - u))) / drift
  # -log2 Phi(z) where the bit is one, -log2 Phi(-z) where it is zero.
  ideal = -special.log_ndtr(np.where(mask, z, -z)).sum() / np.log(2)
  bits = 8 * len(encoded(mask, q, u))
  assert 0.98 * ideal < bits < 1.02 * ideal + 8 * 9 + 64
  others = base.SideInformation(q, (D,))
  assert bits < 8 * len(codecs.CODECS['prior'].encode(mask, others))


def test_a_mask_as_guessed_costs_next_to_nothing(rng):
  q, (u,), _ = drifted(rng, drift=0.0)
  assert len(encoded(u < q, q, u)) < 100


def test_a_mask_that_has_nothing_to_do_with_the_dithers_survives(rng):
  q, (u,), _ = drifted(rng, drift=0.0)
  # Far flips only, then all flips, then a coin.
  z = dither.guess(q, u).distance
  for mask in ((u < q) ^ (z > 1500), u >= q, rng.random(D) < 0.5):
    assert 8 * len(encoded(mask, q, u)) < 2.2 * D


def test_a_guess_is_the_mask_of_the_old_theta(rng):
  q, (u,), _ = drifted(rng, drift=0.0)
  guess = dither.guess(q, u)
  np.testing.assert_array_equal(guess.mask, u < q)
  expected = 256 * np.abs(logit(q) - np.log((u + 0.5) / (65535.5 - u)))
  assert np.abs(guess.distance - expected).max() <= 1
  ends = np.array([1, 65535], np.uint16)
  for a in ends:
    for b in (0, 65535):
      far = dither.guess(np.array([a]), np.array([b], np.uint16)).distance
      assert far <= dither.MAX_DISTANCE < 65536


def test_the_tables_are_those_of_the_format():
  assert dither.TABLES_CRC == 459483482


@pytest.mark.parametrize(
  ('position', 'message'),
  [(0, 'tables'), (4, 'sigma'), (5, 'contradict|range coder')],
)
def test_odd_dither_payloads_name_what_is_odd(rng, position, message):
  q, (u,), (mask,) = drifted(rng, drift=0.3)
  side = base.SideInformation(q, (D,), dither.guess(q, u))
  damaged = bytearray(codecs.CODECS['dither'].encode(mask, side))
  damaged[position] ^= 255
  with pytest.raises(codecs.WireError, match=message):
    codecs.CODECS['dither'].decode(bytes(damaged), D, side)


@pytest.mark.parametrize('name', ['dither', 'theta_news'])
def test_missing_side_information_is_the_callers_mistake(name):
  codec = codecs.CODECS[name]
  symbols = np.ones(9, base.DTYPES[codec.symbols])
  with pytest.raises(ValueError, match=r'side\.(guess|expected)\.\w+ must be'):
    codec.encode(symbols, base.SideInformation(sizes=(9,)))


def entropy(symbols, context):
  """Bits of symbols coded with the frequencies of each context."""
  total = 0.0
  for c in np.unique(context):
    counts = np.unique(symbols[context == c], return_counts=True)[1]
    total -= (counts * np.log2(counts / counts.sum())).sum()
  return total


def foreseen(rng, *, drift, clients=10):
  """The next theta, what a client expects, the last theta, and how many more
  ones there were than expected."""
  q, u, sent = drifted(rng, drift=drift, masks=clients)
  foresight = theta_news.Contexts(D)
  ones = np.zeros(D, np.int64)
  for dithers in u:
    guess = dither.guess(q, dithers)
    foresight.add(guess)
    ones += guess.mask
  theta_of = lambda n: np.clip(n * 65536 // clients, 655, 64881).astype('u2')
  expected = base.Expected(theta_of(ones), foresight.context)
  sent = sent.sum(axis=0)
  return theta_of(sent), expected, q, sent - ones


def bits_of_news(theta, expected):
  side = base.SideInformation(sizes=(theta.size,), expected=expected)
  payload = codecs.CODECS['theta_news'].encode(theta, side)
  got = codecs.CODECS['theta_news'].decode(payload, theta.size, side)
  np.testing.assert_array_equal(got, theta)
  return 8 * len(payload)


@pytest.mark.parametrize('drift', [0.1, 0.4])
def test_theta_news_reaches_the_entropy_of_its_contexts(rng, drift):
  theta, expected, _, news = foreseen(rng, drift=drift)
  floor = entropy(news, expected.context)
  tables = 8 * 2 * (20 + 144 * (2 + 8))
  assert floor < bits_of_news(theta, expected) < 1.01 * floor + tables


def test_what_is_foreseen_is_worth_more_than_the_last_theta(rng):
  theta, expected, q, _ = foreseen(rng, drift=0.3)
  plain = codecs.CODECS['theta_levels'].encode(
    theta, base.SideInformation(sizes=(D,))
  )
  foreseen_bits = bits_of_news(theta, expected)
  by_level = bits_of_news(theta, theta_news.by_level(q))
  assert foreseen_bits < 0.6 * by_level < 0.5 * 8 * len(plain)


def test_a_theta_as_expected_is_one_byte(rng):
  theta, expected, *_ = foreseen(rng, drift=0.3)
  assert bits_of_news(theta, expected._replace(q=theta)) == 8


def test_a_theta_that_nobody_expected_costs_one_byte_more(rng):
  q = rng.integers(1, 65536, D).astype(np.uint16)
  expected = base.Expected(q[::-1].copy(), np.zeros(D, np.uint8))
  plain = codecs.CODECS['theta_levels'].encode(
    q, base.SideInformation(sizes=(D,))
  )
  assert bits_of_news(q, expected) == 8 + 8 * len(plain)


@pytest.mark.parametrize(
  ('payload', 'message'),
  [
    (b'', 'form'),
    (b'\0\0', 'form'),
    (b'\6', 'form'),
    (b'\3', 'varint'),
    (b'\2', 'varint'),
    (b'\2\0', 'levels'),
    (b'\2\4', 'levels'),
    (b'\2\2\5\x80\x80\4', 'below 65536'),
    (b'\2\2\5\0\2\0\0', 'differences'),
    (b'\2\2\5\0\2\0\1\2', 'add up'),
    (b'\2\2\5\0\2\0\2\3\0', 'add up'),
    (b'\2\2\5\0\2\0\2\1\2' + 4 * b'\0', 'not those of the symbols'),
    (b'\2\2\5\0\1\0\1\3', 'leads to no level'),
    (b'\2\1\5\1\0\1\3', 'as short'),
    (b'\2\2\4\0\2\0\1\3', 'as short'),
    (b'\2\1\5\x80\x80\x80\x80\x10\0\1\3', 'differences'),
    (b'\2\2\5\0\1\1\1\3', 'differences'),
    (b'\2\2\5\0\1\0\4\1\0\1\1', 'differences'),
    # Forms 4 and 5: how many differences, the least plus 65535, counts.
    (b'\4', 'varint'),
    (b'\5\0', 'values: got 0 in a group of 3'),
    (b'\5\4', 'values: got 4 in a group of 3'),
    (b'\4\2\0\xff\xff\7\1\2', 'at most 65535'),
    (b'\4\1\xff\xff\3\2', 'add up'),
    (b'\4\2\xff\xff\3\0\3\0', 'add up'),
    (b'\4\2\xff\xff\3\0\1\2' + 4 * b'\0', 'not those of the symbols'),
    (b'\4\1\xff\xff\3\3\0', 'multiple of 4'),
    (b'\4\1\xff\xff\3\3' + 12 * b'\1', 'goes on'),
    (b'\4\1\xfa\xff\3\3', 'out of'),
    (b'\4\1\0\3', 'out of'),
    (b'\4\1\xfe\xff\7\3', 'out of'),
    (b'\4\1\xff\xff\3\3', 'as short'),
  ],
)
def test_odd_news_name_what_is_odd(payload, message):
  expected = base.Expected(np.full(3, 5, np.uint16), np.zeros(3, np.uint8))
  side = base.SideInformation(sizes=(3,), expected=expected)
  with pytest.raises(codecs.WireError, match=message):
    codecs.CODECS['theta_news'].decode(payload, 3, side)


def many_levels(rng, d=D):
  """A theta of some 2,000 levels that moves a little, and what is expected.

  Half of the positions, which are known, move more than the others.
  """
  q = (20_000 + rng.integers(0, 2000, d)).astype(np.uint16)
  context = rng.integers(0, 2, d).astype(np.uint8)
  drift = np.rint((0.7 + 3 * context) * rng.standard_normal(d)).astype(np.int64)
  return (q + drift).astype(np.uint16), base.Expected(q, context)


def test_many_levels_reach_the_entropy_of_their_differences(rng):
  theta, expected = many_levels(rng)
  moved = theta.astype(int) - expected.q
  floor = entropy(moved, expected.context)
  tables = 8 * 2 * 40 * 3
  assert floor < bits_of_news(theta, expected) < 1.005 * floor + tables
  # A few that move far cost a few bytes each, however far.
  theta[:20] = np.linspace(1, 65535, 20)
  assert bits_of_news(theta, expected) < 1.005 * floor + tables + 20 * 64


def test_contexts_of_many_levels_are_used_only_where_they_pay(rng):
  d = 600
  theta, expected = many_levels(rng, d)
  context = np.arange(d).astype(np.uint8)  # each of 256 has 2 or 3 positions
  side = base.SideInformation(
    sizes=(d,), expected=base.Expected(expected.q, context)
  )
  payload = codecs.CODECS['theta_news'].encode(theta, side)
  assert payload[0] == 5
  merged = expected._replace(context=np.zeros_like(context))
  assert 8 * len(payload) == bits_of_news(theta, merged)


def test_differences_as_large_as_they_can_be(rng):
  q = np.arange(1, 65536, dtype=np.uint16)
  everywhere = np.zeros(q.size, np.uint8)
  bits_of_news(np.roll(q, 1), base.Expected(q, everywhere))
  groups = [np.array([-65535, 65535]), np.array([0]), np.array([65535] * 3)]
  payload = differences.encode(groups)
  for got, want in zip(
    differences.decode(payload, [2, 1, 3]), groups, strict=True
  ):
    np.testing.assert_array_equal(got, want)


def test_a_group_has_no_more_differences_than_there_are():
  """More, with the widest gaps, would add up to a number that wraps around."""
  many = 2**17
  gaps = np.full(many, 2**35 - 1)
  payload = varint.encode(np.concatenate([[many], gaps, np.ones(many, int)]))
  with pytest.raises(codecs.WireError, match='expected 1 to 131071'):
    differences.decode(payload, [2**29])


def fine_payload(rng):
  """Like `news_payload`, of the form for many levels."""
  d = 600
  theta, expected = many_levels(rng, d)
  side = base.SideInformation(sizes=(d,), expected=expected)
  payload = codecs.CODECS['theta_news'].encode(theta, side)
  assert payload[0] in (4, 5)
  return payload, side


def news_payload(rng):
  """A valid payload of the form that codes differences, and its side."""
  d = 64
  index = rng.integers(0, 4, d)
  levels = np.array([3, 900, 901, 40000], np.uint16)
  expected = levels[np.clip(index + rng.integers(-1, 2, d), 0, 3)]
  context = rng.integers(0, 3, d).astype(np.uint8)
  side = base.SideInformation(
    sizes=(d,), expected=base.Expected(expected, context)
  )
  payload = codecs.CODECS['theta_news'].encode(levels[index], side)
  assert payload[0] in (2, 3)
  return payload, side


@pytest.mark.parametrize('made', [news_payload, fine_payload])
def test_every_damaged_byte_of_news_is_harmless(rng, made):
  payload, side = made(rng)
  d = side.sizes[0]
  for position in range(1, len(payload)):
    for flip in (1, 2, 64, 128, 255):
      damaged = bytearray(payload)
      damaged[position] ^= flip
      for form in (2, 3, 4, 5):
        damaged[0] = form
        with contextlib.suppress(codecs.WireError):
          codecs.CODECS['theta_news'].decode(bytes(damaged), d, side)


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(
  numbers=st.lists(
    st.integers(0, 9)
    | st.sampled_from([65535, 65536, 2**31, 2**32, 2**35 - 1]),
    max_size=20,
  ),
  form=st.sampled_from([2, 3, 4, 5]),
  tail=st.binary(max_size=12),
)
def test_any_table_of_news_is_harmless(numbers, form, tail):
  expected = base.Expected(np.full(9, 5, 'u2'), np.arange(9, dtype='u1') % 2)
  side = base.SideInformation(sizes=(9,), expected=expected)
  table = varint.encode(np.array(numbers)) if numbers else b''
  with contextlib.suppress(codecs.WireError):
    codecs.CODECS['theta_news'].decode(bytes([form]) + table + tail, 9, side)


def test_a_distance_beyond_the_table_is_the_callers_mistake(rng):
  q, (u,), (mask,) = drifted(rng, drift=0.3)
  guess = dither.guess(q, u)
  guess.distance[7] = 65535
  with pytest.raises(ValueError, match='distance: got 65535'):
    codecs.CODECS['dither'].encode(mask, base.SideInformation(q, (D,), guess))


@pytest.mark.parametrize('drift', [0.0, 0.3])
def test_dithers_of_another_round_client_or_theta_are_detected(drift):
  """Where all that two ends derive differs, though the header agrees."""
  d = 5000
  rng = np.random.default_rng(0)
  q = rng.integers(1000, 64000, d).astype(np.uint16)
  q_k = np.clip(q * (1 + drift * rng.standard_normal(d)), 1, 65535)
  draw = lambda key: np.asarray(jax.random.bits(key, (d,), np.uint16))
  derive = lambda round_idx, client: draw(
    keys.derive(0, keys.Purpose.UPLINK, round_idx=round_idx, client=client)
  )
  side = lambda q, dithers: codecs.SideInformation(
    q, (d,), dither.guess(q, dithers)
  )
  mine = side(q, derive(3, 4))
  mask = derive(3, 4) < q_k.astype(np.uint16)
  address = {
    'codec': 'dither',
    'kind': wire.Kind.UPLINK,
    'round_idx': 3,
    'client': 4,
    'layout_hash': bytes(8),
  }
  message = wire.encode(mask, mine, **address)
  np.testing.assert_array_equal(wire.decode(message, mine, **address), mask)
  other_theta = q.copy()
  other_theta[:50] -= 999
  for theirs in (
    side(q, derive(2, 4)),
    side(q, derive(3, 5)),
    side(other_theta, derive(3, 4)),
  ):
    with pytest.raises(codecs.WireError):
      wire.decode(message, theirs, **address)
