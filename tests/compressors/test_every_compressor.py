"""Laws that every compressor obeys: a new row of COMPRESSORS is tested here.

What a row is made for, its error and its bias, is tested in a file of its own.
"""

import functools

import chex
import jax
import numpy as np
from absl.testing import parameterized

from fedpm_jax import codecs, compressors, masks
from fedpm_jax.prng import dithers, keys

# Options with which the symbols are of another kind than with the defaults.
OPTIONS = {
  'qsgd': [{'levels': 127, 'bucket': 100}],
  'eden': [{'bits': 0.3, 'chunk': 256}, {'bits': 2}, {'bits': 4, 'chunk': 256}],
}
ROWS = [
  (f'{name}{i or ""}', name, options)
  for name in compressors.COMPRESSORS
  for i, options in enumerate([{}, *OPTIONS.get(name, [])])
]
# One parameter; a tensor of one; a tensor of none and a chunk that is not full.
SIZES = [('one', (1,)), ('few', (3, 1)), ('many', (511, 0, 700))]
EVERY_ROW = parameterized.named_parameters(*ROWS)
EVERY_CASE = parameterized.named_parameters(
  *chex.params_product(ROWS, SIZES, named=True)
)
MANY = SIZES[-1][1]
UPDATES = {'theta': np.uint16, 'mask': np.bool_, 'delta': np.float32}
ARRIVED = {'mask': np.bool_, 'delta': np.float32}
KEYS = keys.derive(0, keys.Purpose.UPLINK, client=np.arange(2))


def made(name, options, sizes):
  names = tuple(f'layer_{i}/kernel' for i in range(len(sizes)))
  shapes = tuple((size,) for size in sizes)
  layout = masks.Layout(names, shapes, (1,) * len(sizes))
  return compressors.COMPRESSORS[name](layout, **options)


def example(compressor, sizes):
  """Updates `[2, d]`, the second of a client that did not train; payload."""
  rng, size = np.random.default_rng(0), sum(sizes)
  if compressor.update == 'delta':
    update, payload = rng.standard_normal((2, size)).astype(np.float32)
    return np.stack([0.01 * update, np.zeros_like(update)]), payload
  levels = rng.integers(1, 65536, (2, size)).astype(np.uint16)
  if compressor.update == 'theta':
    return levels, levels[1]
  return levels >= masks.SCALE // 2, levels[1]


def there_and_back(compressor):
  """(key, update, payload) -> (symbols, what arrives)."""

  def once(key, update, payload):
    symbols = compressor.compress(key, update, payload)
    return symbols, compressor.decompress(key, symbols, payload)

  return once


@functools.lru_cache
def plain(name, options, sizes):
  """(symbols, what arrives) of each update of `example`, not compiled.

  No step may give NaN, because machines turn it into different integers.
  """
  compressor = made(name, dict(options), sizes)
  updates, payload = example(compressor, sizes)
  once = there_and_back(compressor)
  with jax.debug_nans(True):
    each = [
      once(key, update, payload)
      for key, update in zip(KEYS, updates, strict=True)
    ]
  return tuple(np.stack(both) for both in zip(*each, strict=True))


def assert_same(compressor, got, want):
  """(symbols, what arrives) are equal, scales up to rounding.

  A scale is a sum of squares, and a compiler may add them in another order.
  What a key draws is integers, which no compiler may change.
  """
  (symbols, arrived), (expected, arrived_then) = got, want
  head = compressor.sizes[0] if compressor.symbols == 'levels' else 0
  scales = lambda symbols: np.array(symbols[..., :head]).view('<f4')
  chex.assert_trees_all_equal(
    symbols[..., head:], expected[..., head:], strict=True
  )
  chex.assert_trees_all_close(scales(symbols), scales(expected), rtol=1e-6)
  if compressor.aggregated == 'mask':
    chex.assert_trees_all_equal(arrived, arrived_then, strict=True)
  else:
    error = 1e-6 * np.abs(arrived_then).max()
    chex.assert_trees_all_close(arrived, arrived_then, atol=error, strict=True)


class ContractTest(chex.TestCase):
  """What `compressors.base` promises of each field."""

  @chex.variants(with_jit=True, without_jit=True)
  @EVERY_CASE
  def test_symbols_and_what_arrives(self, name, options, sizes):
    """They are as declared, and the same ones whether compiled or not.

    What a server and a client draw from a shared key must not depend on their
    compilers, because each compiles a program of its own.
    """
    compressor, size = made(name, options, sizes), sum(sizes)
    once = self.variant(there_and_back(compressor))
    updates, payload = example(compressor, sizes)
    chex.assert_type(updates, UPDATES[compressor.update])
    expected = plain(name, tuple(options.items()), sizes)
    for key, update, *want in zip(KEYS, updates, *expected, strict=True):
      symbols, arrived = once(key, update, payload)
      chex.assert_shape(symbols, (sum(compressor.sizes),))
      chex.assert_type(symbols, codecs.base.DTYPES[compressor.symbols])
      assert compressor.check(np.asarray(symbols)) == ''
      chex.assert_shape(arrived, (size,))
      chex.assert_type(arrived, ARRIVED[compressor.aggregated])
      chex.assert_tree_all_finite(arrived)
      if compressor.aggregated == 'delta' and not update.any():
        assert not np.any(arrived)
      assert_same(compressor, (symbols, arrived), want)

  @EVERY_ROW
  def test_many_clients_at_once_are_each_of_them(self, name, options):
    compressor = made(name, options, MANY)
    updates, payload = example(compressor, MANY)
    many = jax.jit(jax.vmap(there_and_back(compressor), (0, 0, None)))
    want = plain(name, tuple(options.items()), MANY)
    assert_same(compressor, many(KEYS, updates, payload), want)

  @EVERY_ROW
  def test_the_server_needs_the_key_where_it_says_so(self, name, options):
    """Elsewhere a client may keep its random numbers to itself."""
    compressor = made(name, options, MANY)
    _, payload = example(compressor, MANY)
    symbols, arrived = plain(name, tuple(options.items()), MANY)
    with_another_key = compressor.decompress(KEYS[1], symbols[0], payload)
    same = np.array_equal(arrived[0], with_another_key)
    assert same == (not compressor.needs_shared_key)

  @EVERY_ROW
  def test_masks_are_what_their_flags_say(self, name, options):
    compressor = made(name, options, MANY)
    updates, _ = example(compressor, MANY)
    symbols, arrived = plain(name, tuple(options.items()), MANY)
    if compressor.symbols_are_the_mask:
      chex.assert_trees_all_equal(symbols, arrived, strict=True)
    if compressor.mask_is_dithered:
      for key, update, mask in zip(KEYS, updates, symbols, strict=True):
        dithered = np.asarray(dithers.bits16(key, update.size)) < update
        chex.assert_trees_all_equal(mask, dithered, strict=True)
