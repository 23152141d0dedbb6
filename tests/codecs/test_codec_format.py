"""Payloads: how long they are, and which bytes they are.

Lengths are compared with the entropy of the model that a codec claims to use;
the golden bytes pin the formats, so that an upgrade of NumPy or constriction
cannot change them unnoticed.
"""

import hashlib

import numpy as np
import pytest

from fedpm_jax import codecs
from fedpm_jax.codecs import base, dither

# A range coder ends on whole words: at most two more than the entropy.
WORDS = 2 * 32


def bits_of(name, symbols, side):
  return 8 * len(codecs.CODECS[name].encode(symbols, side))


def binary_entropy(ones, total):
  """Bits of a mask of `total` bits coded with its own frequency of ones."""
  shares = np.array([ones, total - ones]) / total
  shares = shares[shares > 0]
  return -total * (shares * np.log2(shares)).sum()


def entropy(symbols):
  counts = np.unique(symbols, return_counts=True)[1]
  return -(counts * np.log2(counts / symbols.size)).sum()


@pytest.mark.parametrize('density', [0.0, 0.001, 0.1, 0.5, 0.97, 1.0])
def test_frequency_reaches_the_entropy(density):
  d = 100_000
  mask = np.random.default_rng(0).random(d) < density
  side = base.SideInformation(sizes=(d,))
  floor = binary_entropy(mask.sum(), d)
  assert bits_of('frequency', mask, side) <= 1.01 * floor + 16 + WORDS
  assert bits_of('frequency', mask, side) >= floor


def test_per_tensor_reaches_the_entropy_of_each_tensor():
  sizes = (40_000, 0, 10, 59_990)
  rng = np.random.default_rng(0)
  tensors = [
    rng.random(size) < density
    for size, density in zip(sizes, (0.02, 0.5, 1.0, 0.6), strict=True)
  ]
  mask = np.concatenate(tensors)
  side = base.SideInformation(sizes=sizes)
  floor = sum(binary_entropy(t.sum(), t.size) for t in tensors if t.size)
  bits = bits_of('per_tensor', mask, side)
  assert floor <= bits <= 1.01 * floor + 16 * len(sizes) + WORDS
  assert bits < 0.8 * bits_of('frequency', mask, side)


@pytest.mark.parametrize('spread', [0.0, 1.0, 4.0, 20.0])
def test_prior_reaches_the_entropy_of_theta(spread):
  d = 100_000
  rng = np.random.default_rng(0)
  logits = spread * rng.standard_normal(d)
  q = np.clip(65536 / (1 + np.exp(-logits)), 1, 65535).astype(np.uint16)
  mask = rng.integers(0, 65536, d) < q
  p = q / 65536
  floor = -np.log2(np.where(mask, p, 1 - p)).sum()
  bits = bits_of('prior', mask, base.SideInformation(q, (d,)))
  assert abs(bits - floor) <= 0.01 * floor + WORDS


def test_per_level_finds_out_what_theta_says():
  """Bits that follow from theta's level, whatever the level itself claims."""
  rng = np.random.default_rng(0)
  q = rng.choice(np.array([100, 30_000, 65_000], np.uint16), 10_000)
  side = base.SideInformation(q, (q.size,))
  mask = q == 30_000
  header = 8 * (3 * 2 + 4)
  assert bits_of('per_level', mask, side) <= header + 32
  noisy = mask ^ (rng.random(q.size) < 0.1)
  share = [np.mean(noisy[q == level]) for level in np.unique(q)]
  entropy = sum(
    np.count_nonzero(q == level) * -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    for level, p in zip(np.unique(q), share, strict=True)
  )
  bits = bits_of('per_level', noisy, side)
  assert entropy < bits <= 1.002 * entropy + header + 32


def test_per_level_takes_upper_bytes_where_levels_are_many():
  rng = np.random.default_rng(1)
  q = rng.integers(1, 65536, 10_000).astype(np.uint16)
  side = base.SideInformation(q, (q.size,))
  assert np.unique(q).size > 256
  bits = bits_of('per_level', q >= 32768, side)
  assert bits <= 8 * (256 * 2 + 4) + 64


def test_a_prior_that_is_always_wrong_costs_16_bits_a_symbol():
  side = base.SideInformation(np.full(1000, 1, np.uint16), (1000,))
  bits = bits_of('prior', np.ones(1000, np.bool_), side)
  assert abs(bits - 16_000) <= WORDS


def count_thetas(rng, d, clients, center):
  """Theta after a round with a prior reset: counts out of K clients."""
  p = 1 / (1 + np.exp(-rng.normal(center, 1, d)))
  theta = rng.binomial(clients, p) * 65536 // clients
  return np.clip(theta, 1, 65535).astype(np.uint16)


@pytest.mark.parametrize('clients', [1, 10, 100])
def test_theta_levels_reaches_the_entropy(clients):
  d = 50_000
  theta = count_thetas(np.random.default_rng(0), d, clients, 0)
  bits = bits_of('theta_levels', theta, base.SideInformation(sizes=(d,)))
  table = 8 * (1 + 1 + (3 + 3) * (clients + 1))
  assert entropy(theta) <= bits <= 1.01 * entropy(theta) + table + WORDS


def test_theta_levels_uses_what_tensors_do_not_share():
  rng = np.random.default_rng(0)
  tensors = [count_thetas(rng, 20_000, 10, center) for center in (-3, 0, 3)]
  theta = np.concatenate(tensors)
  side = base.SideInformation(sizes=(20_000,) * 3)
  floor = sum(entropy(tensor) for tensor in tensors)
  bits = bits_of('theta_levels', theta, side)
  assert floor <= bits <= 1.01 * floor + 8 * 140 + WORDS
  assert bits < 0.9 * entropy(theta)


def test_theta_levels_of_a_first_round_beats_raw():
  d = 100_000
  scores = np.random.default_rng(0).standard_normal(d)
  theta = np.clip(65536 / (1 + np.exp(-scores)), 1, 65535).astype(np.uint16)
  bits = bits_of('theta_levels', theta, base.SideInformation(sizes=(d,)))
  assert bits <= 1.01 * (entropy(theta >> 8) + 8 * d) + WORDS + 8 * 768
  assert bits < 15.9 * d


@pytest.mark.parametrize('d', [1, 100, 70_000])
def test_theta_levels_never_costs_more_than_raw_and_8_bytes(d):
  theta = np.random.default_rng(d).integers(1, 65536, d).astype(np.uint16)
  for sizes in ((d,), (d, 0, 0), (1,) * d if d < 1000 else (1, d - 1)):
    side = base.SideInformation(sizes=sizes)
    assert bits_of('theta_levels', theta, side) <= 16 * d + 8 * 8


def behind_scales(rng, laws, size):
  """20 bytes of any value, then a part of each law; and their sizes."""
  scales = rng.integers(0, 256, 20)
  parts = [rng.choice(len(law), size, p=law) for law in laws]
  symbols = np.concatenate([scales, *parts]).astype(np.uint8)
  return symbols, base.SideInformation(sizes=(20, *(size,) * len(laws)))


@pytest.mark.parametrize('size', [50, 3000, 100_000])
def test_levels_reach_the_entropy_of_each_part(size):
  rng = np.random.default_rng(0)
  laws = [(0.9, 0.1, 0.0), (0.0, 0.0, 1.0), (0.3, 0.3, 0.4)]
  symbols, side = behind_scales(rng, laws, size)
  floor = 160 + sum(
    entropy(part) for part in base.split(symbols[20:], (size,) * 3)
  )
  bits = bits_of('levels', symbols, side)
  # Form, ends and counts, of up to 3 bytes; the middle part costs nothing else.
  assert floor <= bits <= 1.01 * floor + 8 * (3 + 9 * 3) + WORDS


def test_levels_share_a_table_where_parts_are_alike():
  rng = np.random.default_rng(0)
  symbols, side = behind_scales(rng, [np.full(100, 0.01)] * 40, 300)
  bits = bits_of('levels', symbols, side)
  assert bits <= 160 + entropy(symbols[20:]) + 8 * (3 + 200) + WORDS
  assert codecs.CODECS['levels'].encode(symbols, side)[0] == 1


@pytest.mark.parametrize('sizes', [(4,), (4, 1), (0, 1), (4,) + (1,) * 300])
def test_few_levels_never_cost_more_than_a_byte_each(sizes):
  symbols = np.random.default_rng(0).integers(0, 256, sum(sizes))
  side = base.SideInformation(sizes=sizes)
  assert bits_of('levels', symbols.astype(np.uint8), side) <= 8 * (
    1 + sum(sizes)
  )


def noise(d):
  """The same integers in [0, 65536) for ever, whatever happens to NumPy."""
  index = np.arange(1, d + 1, dtype=np.uint64)
  index = (index * np.uint64(2654435761)) % np.uint64(2**32)
  index = ((index ^ (index >> 15)) * np.uint64(2246822519)) % np.uint64(2**32)
  return (index >> np.uint64(16)).astype(np.int64)


def golden_input(name, d, sizes):
  """(symbols, side) made of integers only."""
  values = noise(2 * d)
  q = np.clip(values[:d] * values[:d] // 65536, 1, 65535).astype(np.uint16)
  symbols = {
    'mask': values[d:] < q,
    'theta': q,
    'index': (values[:d] % 128).astype(np.uint16),
    'levels': (values[:d] * values[d:] >> 29).astype(np.uint8),
    'float32': ((values[d:] - 32768) / 4096).astype(np.float32),
  }[codecs.CODECS[name].symbols]
  dithers = values[::-1][:d].astype(np.uint16)
  context = (values[:d] % 5).astype(np.uint8)
  expected = base.Expected(np.maximum(q >> 1, 1), context)
  return symbols, base.SideInformation(
    q, sizes, dither.guess(q, dithers), expected
  )


GOLDEN = {
  'raw': (
    (
      '00688bc0008069be0010104000c2c4c000f8a83f006ce440004ead4000a8eb40'
      '0040504000144b400008ec3f0038f4bf00e80c40008020bf001e86400000693e'
      '00706cbf000c93c0004055be0042b640'
    ),
    'e1aa7bbf2e026e91',
  ),
  'bitpack': (
    '4809b0',
    '12a3c19fb60a898a',
  ),
  'frequency': (
    '9a59b23e7c7c',
    '2cc93fe7330461be',
  ),
  'per_tensor': (
    'e43801005d74b02ceaaf',
    '8e56b34a31eb3d84',
  ),
  'per_level': (
    (
      '01000100010001000100010001000100010001000100ffffffff0100ffff0100'
      'ffffffffffffffff95ff0600'
    ),
    '94c8faebe96385fe',
  ),
  'prior': (
    'd38c5937',
    '286ad31c918f0d2b',
  ),
  'dither': (
    '5a29631b2301000100e6eb2e66',
    '2fa9cd8f3e2540d4',
  ),
  'theta_raw': (
    (
      'd52132b1df00f5087bb4de00cb231fcef7547d0a4a00db0065f2cd1297b820cf'
      'f9e1ec101bce73dc'
    ),
    'a33139d82e8c0ffb',
  ),
  'theta_levels': (
    (
      '02010014d52132b1df00f5087bb4de00cb231fcef7547d0a4a00db0065f2cd12'
      '97b820cff9e1ec101bce73dc'
    ),
    '425b389782634fd5',
  ),
  'theta_news': (
    (
      '0102010014d52132b1df00f5087bb4de00cb231fcef7547d0a4a00db0065f2cd'
      '1297b820cff9e1ec101bce73dc'
    ),
    'd10bf38d1b090f13',
  ),
  'index': (
    '071400000023f3ae5e7a1d36f94924f37871450b49a100',
    'ba92a94e5c3f07b9',
  ),
  'levels': (
    '000003000003000206030100000400050303000306',
    'fdc075cf4cbf5f35',
  ),
}


def test_every_codec_has_a_golden_payload():
  assert list(GOLDEN) == list(codecs.CODECS)


@pytest.mark.parametrize('name', GOLDEN)
def test_golden_payload(name):
  symbols, side = golden_input(name, 20, (9, 0, 11))
  assert codecs.CODECS[name].encode(symbols, side).hex() == GOLDEN[name][0]
  assert_pinned(name, symbols, side, GOLDEN[name][0])


@pytest.mark.parametrize('name', GOLDEN)
def test_golden_payload_of_10000(name):
  symbols, side = golden_input(name, 10_000, (3000, 7000))
  payload = codecs.CODECS[name].encode(symbols, side)
  assert hashlib.sha256(payload).hexdigest()[:16] == GOLDEN[name][1]


def assert_pinned(name, symbols, side, payload_hex):
  """An old payload must still be read: the decoder has its own golden test."""
  payload = bytes.fromhex(payload_hex)
  got = codecs.CODECS[name].decode(payload, symbols.size, side)
  np.testing.assert_array_equal(got, symbols)


def levels_input(form):
  """A theta for which `form` is the cheapest, and the sizes of its tensors."""
  values = noise(20_000)
  first, second = values[:10_000], values[10_000:]
  low, high = first * first // 2**20, second * second // 2**20
  few = np.concatenate([low // 2**10 * 2**12, high // 2**10 * 2**12])
  tensors = {
    0: few,
    1: np.concatenate([low * 16, high * 16 + second % 16]),
    2: values[:50],
    4: np.concatenate([low // 2**10 * 2**12, 61440 - high // 2**10 * 2**12]),
    5: np.concatenate([low + second % 16, 65535 - high * 4 - second % 4]),
  }[form]
  sizes = (30, 20) if form == 2 else (10_000, 10_000)
  theta = np.clip(tensors, 1, 65535).astype(np.uint16)
  return theta, base.SideInformation(sizes=sizes)


LEVELS_GOLDEN = {
  0: '504d3039ba18e0e3',
  1: '8e48e53ef736a672',
  2: 'c06a579f970af68a',
  4: '84d42ad00fe36b59',
  5: '64a63295e2abc0be',
}


@pytest.mark.parametrize('form', LEVELS_GOLDEN)
def test_golden_form_of_theta_levels(form):
  theta, side = levels_input(form)
  payload = codecs.CODECS['theta_levels'].encode(theta, side)
  digest = hashlib.sha256(payload).hexdigest()[:16]
  assert (payload[0], digest) == (form, LEVELS_GOLDEN[form])
  got = codecs.CODECS['theta_levels'].decode(payload, theta.size, side)
  np.testing.assert_array_equal(got, theta)


def fine_input(form):
  """A theta of many levels for which `form` of `theta_news` is the cheapest."""
  values = noise(20_000)
  # In two contexts, or in 200, whose tables do not pay.
  context = values[:10_000] % (2 if form == 4 else 200)
  news = values[10_000:] % np.where(context > 0, 2, 9)
  q = (9999 + values[:10_000] % 999).astype(np.uint16)
  expected = base.Expected(q, context.astype(np.uint8))
  return (q + news).astype(np.uint16), base.SideInformation(
    sizes=(10_000,), expected=expected
  )


FINE_GOLDEN = {4: '6ca1f7fc3f0ec1e2', 5: '6a0c08c8fa1e3627'}


@pytest.mark.parametrize('form', FINE_GOLDEN)
def test_golden_form_of_theta_news(form):
  theta, side = fine_input(form)
  payload = codecs.CODECS['theta_news'].encode(theta, side)
  digest = hashlib.sha256(payload).hexdigest()[:16]
  assert (payload[0], digest) == (form, FINE_GOLDEN[form])
  assert_pinned('theta_news', theta, side, payload.hex())


def scaled_input(form):
  """Scales and levels for which `form` is the cheapest, and their side."""
  values = noise(2012)
  few = (values[12:] * values[12:] >> 30).astype(np.uint8)
  levels = {0: values[12:52] >> 8, 1: few, 2: few + 9 * (np.arange(2000) > 700)}
  symbols = np.concatenate([values[:12] >> 8, levels[form]]).astype(np.uint8)
  sizes = (12, 40) if form == 0 else (12, 700, 0, 1300)
  return symbols, base.SideInformation(sizes=sizes)


SCALED_GOLDEN = {
  0: '99352c636947b8e6',
  1: 'a5232209ae9ed0e2',
  2: '664711fa274bdf00',
}


@pytest.mark.parametrize('form', SCALED_GOLDEN)
def test_golden_form_of_levels(form):
  symbols, side = scaled_input(form)
  payload = codecs.CODECS['levels'].encode(symbols, side)
  digest = hashlib.sha256(payload).hexdigest()[:16]
  assert (payload[0], digest) == (form, SCALED_GOLDEN[form])
  got = codecs.CODECS['levels'].decode(payload, symbols.size, side)
  np.testing.assert_array_equal(got, symbols)
