"""Partitions: laws for any labels, and the official split's own program."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedpm_jax.data import partition

BALANCED = np.repeat(np.arange(10), 100)


@st.composite
def cases(draw):
  """Arguments of `split` that are possible, among them tight ones."""
  num_classes = draw(st.integers(1, 8))
  per_class = draw(
    st.lists(st.integers(1, 30), min_size=num_classes, max_size=num_classes)
  )
  # Labels need not be 0, 1, 2, ...: a class may be missing.
  names = draw(st.permutations(range(num_classes + 2)))[:num_classes]
  labels = draw(st.permutations(np.repeat(names, per_class).tolist()))
  num_clients = draw(st.integers(1, min(len(labels), 40)))
  return labels, {
    'num_clients': num_clients,
    'seed': draw(st.integers(0, 2**32 - 1)),
    'classes_per_client': draw(st.integers(1, num_classes)),
    'alpha': draw(st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e6])),
    'sizes': draw(st.sampled_from(list(partition.SIZES))),
    'max_examples': draw(st.none() | st.integers(1, 20)),
  }


def possible(kind, labels, arguments):
  """Whether the strict split can exist: enough holders, enough examples."""
  if kind != 'classes':
    return True
  clients, c = arguments['num_clients'], arguments['classes_per_client']
  available = np.unique(labels, return_counts=True)[1]
  cap = arguments['max_examples']
  return np.minimum(available, clients).sum() >= clients * c and (
    cap is None or cap >= c
  )


@pytest.mark.parametrize('kind', partition.PARTITIONS)
@hypothesis.settings(deadline=None)
@hypothesis.given(case=cases())
def test_laws(kind, case):
  labels, arguments = case
  hypothesis.assume(possible(kind, labels, arguments))
  parts = partition.split(kind, np.array(labels), **arguments)
  cap = arguments['max_examples']
  sizes = np.array([len(part) for part in parts])

  assert len(parts) == arguments['num_clients']
  assert sizes.min() >= 1
  assert all(part.dtype == np.int32 for part in parts)
  assert all((np.diff(part) > 0).all() for part in parts)
  used = np.concatenate(parts)
  assert len(set(used.tolist())) == len(used)
  assert used.min() >= 0
  assert used.max() < len(labels)

  held = [len(set(np.array(labels)[part].tolist())) for part in parts]
  if cap is not None:
    assert sizes.max() <= cap
  if kind == 'classes':
    assert set(held) == {arguments['classes_per_client']}
    return
  if cap is None:
    assert len(used) == len(labels)
  if arguments['sizes'] == 'equal':
    assert sizes.max() - sizes.min() <= 1

  again = partition.split(kind, np.array(labels), **arguments)
  for one, other in zip(parts, again, strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('kind', partition.PARTITIONS)
def test_another_seed_is_another_split(kind):
  arguments = {'num_clients': 10, 'classes_per_client': 2, 'alpha': 0.5}
  one, same, other = (
    np.concatenate(partition.split(kind, BALANCED, seed=seed, **arguments))
    for seed in (0, 0, 1)
  )
  assert np.array_equal(one, same)
  assert not np.array_equal(one, other)


def test_iid_is_a_uniform_draw():
  """Class counts have the hypergeometric mean and variance."""
  labels = np.repeat([0, 1], [30, 70])
  draws = 1000
  zeros, hits = [], np.zeros(100)
  for seed in range(draws):
    parts = partition.split('iid', labels, num_clients=5, seed=seed)
    zeros.append(partition.label_counts(parts, labels, 2)[:, 0])
    hits[parts[0]] += 1
  # First and last client alike: nobody gets what the others left over.
  variance = 20 * 0.3 * 0.7 * (100 - 20) / (100 - 1)
  error = np.sqrt(variance / draws)
  assert np.abs(np.mean(zeros, 0) - 6).max() < 4.5 * error
  assert np.abs(np.var(zeros, 0) / variance - 1).max() < 4.5 * np.sqrt(
    2 / draws
  )
  # Which of the examples it is, is as random.
  error = np.sqrt(0.2 * 0.8 / draws)
  assert np.abs(hits / draws - 0.2).max() < 4.5 * error


def test_unequal_sizes_are_those_of_the_official_code():
  """Sizes ~ randint(10, 100): none ten times another, mean ratio as drawn."""
  labels = np.zeros(5_450, np.int64)
  ratios = []
  for seed in range(60):
    parts = partition.split(
      'iid', labels, num_clients=100, seed=seed, sizes='unequal'
    )
    sizes = np.array([len(part) for part in parts])
    assert sizes.sum() == 5_450
    assert (sizes.max() - 1) / (sizes.min() + 1) <= 9.9
    ratios += (sizes / sizes.mean()).tolist()
  # Uniform on 10 ... 99: standard deviation over mean.
  expected = np.sqrt((90**2 - 1) / 12) / 54.5
  assert np.std(ratios) == pytest.approx(expected, rel=0.03)


# -------------------------------------------------------- the official c_max


def official_classes(rng, num_examples, num_classes, num_clients, c_max):
  """Classes a client, by a plain program of what the official code does."""
  weights = rng.integers(10, 100, num_clients)
  sizes = np.floor(weights / weights.sum() * num_examples).astype(int)
  sizes[-1] += num_examples - sizes.sum()
  left = [num_examples // num_classes] * num_classes
  held = []
  for size in sizes:
    quota = max(1, size // c_max)
    budget, k, mine = size, rng.integers(num_classes), set()
    while budget > 0:
      taken = min(quota, left[k], budget)
      if taken:
        mine.add(int(k))
      left[k] -= taken
      budget -= taken
      k = (k + 1) % num_classes
    held.append(len(mine))
  return np.mean(held)


@pytest.mark.parametrize('num_clients', [10, 50])
def test_c_max_spreads_classes_as_the_official_code_does(num_clients):
  labels = np.repeat(np.arange(10), 1000)
  rng = np.random.default_rng(0)
  official = [
    official_classes(rng, 10_000, 10, num_clients, 2) for _ in range(200)
  ]
  ours = []
  for seed in range(200):
    parts = partition.split(
      'c_max',
      labels,
      num_clients=num_clients,
      seed=seed,
      classes_per_client=2,
      sizes='unequal',
    )
    counts = partition.label_counts(parts, labels, 10)
    ours.append((counts > 0).sum(1).mean())
  error = np.hypot(np.std(official), np.std(ours)) / np.sqrt(200)
  assert np.mean(ours) == pytest.approx(np.mean(official), abs=4 * error)
  # No hard cap: on average a client holds more than 2.
  assert np.mean(ours) > 2.4


def test_c_max_takes_quotas_from_consecutive_classes():
  # The first client finds every class full, so that its take is exact.
  starts = set()
  for seed in range(20):
    parts = partition.split(
      'c_max', BALANCED, num_clients=30, seed=seed, classes_per_client=3
    )
    mine = partition.label_counts(parts, BALANCED, 10)[0]
    quota = len(parts[0]) // 3
    start = int(np.argmax((mine > 0) & (np.roll(mine, 1) == 0)))
    walk = np.roll(mine, -start)
    assert (walk[:3] == quota).all()
    assert (walk[3:] > 0).sum() == (len(parts[0]) % 3 > 0)
    starts.add(start)
  assert len(starts) > 5


# ------------------------------------------------------------ strict classes


@pytest.mark.parametrize(('num_clients', 'c'), [(10, 2), (10, 10), (50, 4)])
def test_classes_that_come_out_even_use_everything(num_clients, c):
  parts = partition.split(
    'classes', BALANCED, num_clients=num_clients, seed=3, classes_per_client=c
  )
  counts = partition.label_counts(parts, BALANCED, 10)
  assert set(counts.ravel().tolist()) <= {0, 1000 // num_clients // c}
  assert ((counts > 0).sum(1) == c).all()
  assert counts.sum() == len(BALANCED)


def test_classes_that_do_not_come_out_even_waste_little():
  # 7 clients, 2 of 10 classes: 14 holders, so 4 or more classes have one only.
  for seed in range(20):
    parts = partition.split(
      'classes', BALANCED, num_clients=7, seed=seed, classes_per_client=2
    )
    sizes = np.array([len(part) for part in parts])
    assert sizes.max() <= 143
    assert sizes.min() >= 98  # 100 but for rounding
    assert sizes.sum() >= 800


def test_classes_cover_rare_classes_and_common_ones_in_proportion():
  labels = np.repeat(np.arange(4), [400, 400, 190, 10])
  parts = partition.split(
    'classes', labels, num_clients=50, seed=0, classes_per_client=1
  )
  holders = (partition.label_counts(parts, labels, 4) > 0).sum(0)
  assert holders[3] >= 1
  assert np.abs(holders - [20, 20, 9.5, 0.5]).max() < 2


def test_classes_of_clients_are_independent_of_their_ids():
  firsts = [
    np.flatnonzero(
      partition.label_counts(
        partition.split(
          'classes', BALANCED, num_clients=5, seed=s, classes_per_client=2
        ),
        BALANCED,
        10,
      )[[0, -1]]
    )
    for s in range(300)
  ]
  seen = np.bincount(np.concatenate(firsts), minlength=20).reshape(2, 10)
  assert np.abs(seen / 300 - 0.2).max() < 4.5 * np.sqrt(0.2 * 0.8 / 300)


# ----------------------------------------------------------------- dirichlet


def test_dirichlet_goes_from_one_class_to_iid():
  def concentration(alpha, labels=BALANCED, num_classes=10, cap=None):
    values = []
    for seed in range(20):
      parts = partition.split(
        'dirichlet',
        labels,
        num_clients=10,
        seed=seed,
        alpha=alpha,
        max_examples=cap,
      )
      counts = partition.label_counts(parts, labels, num_classes)
      values.append(np.square(counts / counts.sum(1, keepdims=True)).sum(1))
    return np.mean(values)

  # E sum p^2 of a symmetric Dirichlet is (alpha + 1) / (C alpha + 1); sharing
  # finite classes pulls it down a little where they are asked for unequally.
  assert concentration(1e-3) > 0.6
  assert concentration(1.0) == pytest.approx(2 / 11, abs=0.03)
  assert concentration(1e5) == pytest.approx(0.1, abs=0.001)
  # The limit is the mixture of the labels, and not that of equal classes, also
  # where a cap leaves each client free to hold any mixture.
  skewed = np.repeat([0, 1], [900, 100])
  for cap in (None, 20):
    assert concentration(1e5, skewed, 2, cap) == pytest.approx(0.82, abs=0.002)


# -------------------------------------------------------------------- errors


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'kind': 'by_writer'}, r"kind must be one of \['iid', .*got 'by_writer'"),
    ({'sizes': 'odd'}, r"sizes must be one of \['equal', 'unequal'\], got"),
    ({'num_clients': 1001}, r'at most 1000, the examples; got 1001'),
    ({'num_clients': 0}, r'num_clients must be an integer, at least 1'),
    ({'num_clients': 2.5}, r'num_clients must be an integer.*got 2\.5'),
    ({'max_examples': 0}, r'max_examples must be an integer, at least 1; got'),
    ({'kind': 'classes'}, r'classes_per_client must .* got None'),
    ({'kind': 'c_max'}, r'classes_per_client must .* got None'),
    (
      {'kind': 'c_max', 'classes_per_client': 11},
      r'at most 10, the classes; got 11',
    ),
    (
      {'kind': 'classes', 'classes_per_client': 11},
      r'at most 10, the classes; got 11',
    ),
    ({'kind': 'classes', 'classes_per_client': 0}, r'at least 1 .*got 0'),
    (
      {'kind': 'classes', 'classes_per_client': 3, 'max_examples': 2},
      r'at most 2, the examples a client; got 3',
    ),
    (
      {'kind': 'classes', 'classes_per_client': 2, 'num_clients': 501},
      r'need 1002 holders, but the classes allow only 1000',
    ),
    ({'kind': 'dirichlet'}, r'alpha must be positive and finite, got None'),
    ({'kind': 'dirichlet', 'alpha': 0.0}, r'alpha must .* got 0\.0'),
    ({'kind': 'dirichlet', 'alpha': float('nan')}, r'alpha must .* got nan'),
    ({'kind': 'dirichlet', 'alpha': float('inf')}, r'alpha must .* got inf'),
    ({'labels': BALANCED / 1.0}, r'labels must be integers.*got float64'),
    ({'labels': BALANCED[None]}, r'labels must .*got int64 \(1, 1000\)'),
  ],
)
def test_what_is_impossible_is_refused(changes, message):
  arguments = {'kind': 'iid', 'labels': BALANCED, 'num_clients': 10, 'seed': 0}
  with pytest.raises(ValueError, match=message):
    partition.split(**(arguments | changes))


def test_more_holders_than_examples_of_the_classes_are_refused():
  # 20 clients of 2 classes: class 1 has only 3 examples to give.
  labels = np.repeat([0, 1], [97, 3])
  with pytest.raises(ValueError, match=r'need 40 holders, .* only 23'):
    partition.split(
      'classes', labels, num_clients=20, seed=0, classes_per_client=2
    )


def test_label_counts_of_a_table_made_by_hand():
  labels = np.array([2, 0, 2, 1, 0])
  parts = [np.array([0, 2, 3]), np.array([1, 4])]
  np.testing.assert_array_equal(
    partition.label_counts(parts, labels, 4), [[0, 1, 2, 0], [2, 0, 0, 0]]
  )
