"""Keys: derived, distinct, and the same for ever."""

import itertools

import chex
import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from fedpm_jax.prng import keys, threefry

GOLDEN_KEY = [3445417514, 417786320, 3537773162, 402187926]
GOLDEN = [256571783, 1779443361, 125244737, 1538031582]


def test_golden_stream():
  """Formats depend on it: a new generator needs a new version of them all."""
  key = keys.derive(7, keys.Purpose.UPLINK, round_idx=3, client=11)
  assert np.asarray(jax.random.key_data(key)).tolist() == GOLDEN_KEY
  assert np.asarray(jax.random.bits(key, (4,), np.uint32)).tolist() == GOLDEN


@hypothesis.given(
  st.integers(0, 2**32 - 1),
  st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3),
)
def test_keys_are_those_of_jax(seed, folds):
  ours = threefry.seed(seed)
  theirs = jax.random.key(np.uint32(seed), impl=keys.IMPLEMENTATION)
  for data in folds:
    ours = threefry.fold_in(ours, data)
    theirs = jax.random.fold_in(theirs, np.uint32(data))
  np.testing.assert_array_equal(ours, jax.random.key_data(theirs))


class WrapTest(chex.TestCase):
  @chex.variants(
    with_jit=True, without_jit=True, with_device=True, without_device=True
  )
  def test_words_become_typed_keys(self):
    """The generator is compared too: a default one would be another stream."""
    words = np.stack([threefry.seed(number) for number in range(6)])
    got = self.variant(keys.wrap)(words.reshape(2, 3, 4))
    chex.assert_shape(got, (2, 3))
    theirs = [jax.random.key(i, impl=keys.IMPLEMENTATION) for i in range(6)]
    chex.assert_trees_all_equal(list(got.reshape(6)), theirs)


def test_keys_of_many_clients_are_those_of_each():
  derive = lambda k: keys.words(5, keys.Purpose.LOCAL, round_idx=2, client=k)
  many = derive(np.arange(6).reshape(2, 3))
  each = np.stack([derive(client) for client in range(6)])
  chex.assert_trees_all_equal(many, each.reshape(2, 3, 4), strict=True)


def test_every_key_is_another():
  found = {
    tuple(keys.words(seed, purpose, round_idx=t, client=k).tolist())
    for seed, purpose, t, k in itertools.product(
      (0, 1), keys.Purpose, (0, 1, 2), (0, 1, 2)
    )
  }
  assert len(found) == 2 * len(keys.Purpose) * 9


def test_host_rng_is_a_function_of_its_arguments():
  draw = lambda *args, **kw: keys.host_rng(*args, **kw).integers(2**62)
  assert draw(1, keys.Purpose.BATCHES, round_idx=2, client=3) == draw(
    1, keys.Purpose.BATCHES, round_idx=2, client=3
  )
  assert draw(1, keys.Purpose.BATCHES, round_idx=2, client=3) != draw(
    1, keys.Purpose.BATCHES, round_idx=3, client=2
  )


def test_cohort_is_fair_and_without_replacement():
  counts = np.zeros(20)
  for t in range(400):
    ids = keys.cohort(0, t, num_clients=20, clients_per_round=5)
    assert len(set(ids.tolist())) == 5
    assert ids.tolist() == sorted(ids.tolist())
    counts[ids] += 1
  # Binomial(400, 1/4): standard deviation 8.7.
  assert abs(counts - 100).max() < 4 * 8.7
  everyone = keys.cohort(0, 0, num_clients=3, clients_per_round=3)
  assert everyone.tolist() == [0, 1, 2]


@pytest.mark.parametrize('clients_per_round', [0, 4])
def test_impossible_cohort(clients_per_round):
  with pytest.raises(ValueError, match=r'\[1, num_clients = 3\], got'):
    keys.cohort(0, 0, num_clients=3, clients_per_round=clients_per_round)
