"""The door: what cannot be trained on is refused in one line."""

import numpy as np
import pytest

from fedpm_jax.data import checks, sources


def dataset(**changes):
  labels = np.arange(20) % 4
  images = np.zeros((20, 6, 6, 1), np.uint8)
  images[:, 0, 0, 0] = np.arange(20)
  made = sources.Dataset('toy', images, labels, images[:8], labels[:8], 4)
  return made._replace(**changes)


def test_a_good_one_passes_with_labels_as_int32():
  checked = checks.checked(dataset())
  assert checked.y_train.dtype == checked.y_test.dtype == np.int32
  np.testing.assert_array_equal(checked.y_train, dataset().y_train)


def test_floats_pass_with_a_range():
  half = dataset().x_train.astype(np.float32) / 255
  checks.checked(dataset(x_train=half, x_test=half[:8], value_range=(0.0, 1.0)))


@pytest.mark.parametrize(
  'inputs',
  [
    np.linspace(-3, 9, 140, dtype=np.float32).reshape(20, 7),
    np.arange(100, dtype=np.int32).reshape(20, 5),
    np.arange(240, dtype=np.int32).reshape(20, 2, 6),
    np.arange(180, dtype=np.uint8).reshape(20, 3, 3),
  ],
)
def test_rows_and_tokens_pass_as_they_are(inputs, caplog):
  checked = checks.checked(dataset(x_train=inputs, x_test=inputs[:8]))
  assert checked.x_train is inputs
  assert not caplog.records


def table(*widths):
  """Columns of these standard deviations, in both halves."""
  signs = np.resize([1.0, -1.0], 20)[:, None]
  rows = (7 + signs * np.array(widths)).astype(np.float32)
  return {'x_train': rows, 'x_test': rows[:8]}


def floats(low=0.0, high=1.0, value_range=(0.0, 1.0)):
  images = np.linspace(low, high, 20 * 36, dtype=np.float32)
  images = images.reshape(20, 6, 6, 1)
  return {
    'x_train': images,
    'x_test': images[:8],
    'value_range': value_range,
  }


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      floats(value_range=None),
      r'\(low, high\)\).*got float32.*say their range',
    ),
    (floats(high=1.5), r'must lie in value_range = \(0.0, 1.0\).* to 1.5'),
    (floats(value_range=(1.0, 0.0)), 'low below high'),
    (floats(high=np.nan), 'must lie in value_range .* nan'),
    ({'value_range': (0.0, 1.0)}, 'is uint8, .* leave value_range out'),
    (
      {'x_train': np.zeros((20, 6, 6, 1))},
      r'must be uint8, or .*got float64.*astype\(np.float32\), and say their ra',
    ),
    (
      {'x_train': np.zeros((20, 6, 6, 1), int)},
      r'got int64 .*: use x_train.astype\(np.uint8\)',
    ),
    (
      {'x_train': np.zeros((20, 6, 6, 1), np.int32)},
      r'got int32 .*: use x_train.astype\(np.uint8\)',
    ),
    ({'x_train': np.full((20, 6, 6, 1), 256)}, r'got int64 .*range = None\.$'),
    ({'x_train': np.full((20, 6), 2**31)}, r'got int64 .*range = None\.$'),
    ({'x_train': np.zeros((20, 6, 6, 1), bool)}, 'must be uint8.*got bool'),
    ({'x_train': np.zeros((20, 6, 6, 1), np.int8)}, 'must be uint8.*got int8'),
    ({'x_train': [[1]]}, r'x_train must be an array: images .*, got list'),
    ({'x_train': np.zeros(20, np.uint8)}, r'images .*rows.*, got \(20,\)'),
    ({'x_train': np.zeros((20, 6, 6, 0), np.uint8)}, 'must not be empty'),
    ({'x_test': np.zeros((0, 6, 6, 1), np.uint8)}, 'x_test must not be empty'),
    (
      {'x_train': np.zeros((20, 3, 6, 6), np.uint8)},
      r'looks like \[N, C, H, W\]: use np.moveaxis\(x_train, 1, 3\)',
    ),
    ({'x_test': np.zeros((8, 6, 5, 1), np.uint8)}, 'must be alike'),
    ({'y_train': np.arange(20) % 4 + 1}, r'\[0, num_classes = 4\).*subtract 1'),
    ({'y_test': np.full(8, -1)}, 'y_test must lie in .* got -1'),
    ({'y_test': np.full(8, 4)}, 'y_test must lie in .* to 4'),
    ({'y_train': np.zeros(20)}, r'y_train must be integers \[N\], got float64'),
    ({'y_train': np.zeros((20, 4), int)}, r'integers \[N\], got int64 \(20, 4'),
    ({'y_train': np.zeros(19, int)}, 'equally long, got 20 inputs and 19'),
    ({'num_classes': 1}, 'num_classes must be at least 2, got 1'),
    ({'num_classes': None}, 'num_classes must be an integer, got None'),
    ({'num_classes': 'ten'}, "num_classes must be an integer, got 'ten'"),
    ({'value_range': 1.0}, 'value_range must be two numbers .*, got 1.0'),
    ({'value_range': (1.0,)}, r'must be two numbers .*, got \(1.0,\)'),
    ({'value_range': 'ab'}, "must be two numbers .*, got 'ab'"),
    ({'x_train': np.zeros((20, 6))}, r'use x_train.astype\(np.float32\)'),
    ({'x_train': np.zeros((20, 6), int)}, r'use x_train.astype\(np.int32\)'),
    ({'x_train': np.full((20, 6), -1, np.int32)}, 'at least 0, got -1: pad'),
    ({'x_train': np.full((20, 6), np.inf, np.float32)}, 'finite .* inf.*stand'),
    ({'x_train': np.full((20, 6), np.nan, np.float32)}, 'finite .* nan'),
    ({'x_train': np.full((20, 6), 2e6, np.float32)}, 'within .* 2000000'),
    (
      {
        'x_train': np.zeros((20, 6), np.int32),
        'x_test': np.zeros((8, 6), np.float32),
      },
      'alike, got inputs of int32',
    ),
    (
      {'x_train': np.zeros((20, 6), np.int32), 'value_range': (0.0, 1.0)},
      r'int32 \[20, 6\] with value_range = \(0.0, 1.0\)\.',
    ),
    (
      {'y_train': np.zeros((20, 1), int)},
      r'got int64 \(20, 1\): use y_train.reshape\(-1\)',
    ),
    ({'y_train': np.eye(20)}, r'use y_train.argmax\(1\), if it is one-hot'),
  ],
)
def test_what_is_refused(changes, message):
  with pytest.raises(ValueError, match=message) as error:
    checks.checked(dataset(**changes))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({}, ''),
    (floats(), ''),
    # Scaled to [0, 1], and said to be [0, 255].
    (
      {'x_train': np.ones((20, 6, 6, 1), np.uint8)},
      'x_train has values from 1',
    ),
    (
      floats(value_range=(0.0, 255.0)),
      'x_train has values from 0 to 1 of [0, 2',
    ),
    ({'x_test': dataset().x_test // 4}, 'x_test has values from 0 to 1 of'),
    # Not square, so that both may be meant.
    (
      dict.fromkeys(
        ('x_train', 'x_test'),
        np.arange(20, dtype=np.uint8)[:, None, None, None]
        + np.zeros((1, 3, 6, 8), np.uint8),
      )
      | {'y_test': np.zeros(20, int)},
      'images of 3 rows with 8 channels. If it is [N, C, H, W], use',
    ),
    (table(0.0, 900.0, 1.0), ''),
    (
      table(2.0, 3000.0, 0.0),
      'x_train: column 1 has a standard deviation of 3e+03, column 0 one of 2.',
    ),
  ],
)
def test_what_is_told_of_and_passes(changes, said, caplog):
  checks.checked(dataset(**changes))
  assert said in caplog.text
  assert bool(said) == bool(caplog.text)


CLIENTS = [np.arange(5), np.arange(5, 10), [19]]


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (7, 'one for each client, got int'),
    ({0: [1], 1: [2], 2: [3]}, 'one for each client, got dict'),
    (CLIENTS[:2], 'must be config.num_clients = 3 arrays of indices, got 2'),
    ([[], *CLIENTS[1:]], r'clients\[0\] .* is empty: every client needs'),
    ([*CLIENTS[:2], np.array([], int)], r'clients\[2\] .* is empty'),
    ([[1, 20], *CLIENTS[1:]], r'clients\[0\] .* in \[0, 20\), got 1 to 20'),
    ([[-1], *CLIENTS[1:]], r'indices in \[0, 20\), got -1 to -1'),
    (
      [[0.5], *CLIENTS[1:]],
      r'clients\[0\] must be integers \[n\], got float64',
    ),
    ([[[1], [2, 3]], *CLIENTS[1:]], r'clients\[0\] must be integers \[n\]: '),
  ],
)
def test_a_client_split_that_does_not_fit(given, message):
  with pytest.raises(ValueError, match=message) as error:
    checks.checked_clients(given, 3, 20)
  assert '\n' not in str(error.value)


def test_a_client_split_that_fits():
  parts = checks.checked_clients(CLIENTS, 3, 20)
  assert [part.dtype for part in parts] == [np.int32] * 3
  assert [len(part) for part in parts] == [5, 5, 1]


def test_a_fingerprint_tells_data_apart():
  one, same = checks.fingerprint(dataset()), checks.fingerprint(dataset())
  assert one == same
  other = dataset().x_test.copy()
  other[0, 0, 0, 0] ^= 1
  assert checks.fingerprint(dataset(x_test=other)) != one
  swapped = dataset(y_train=dataset().y_train[::-1])
  assert checks.fingerprint(swapped) != one


def test_a_checksum_is_that_of_the_values_in_order(monkeypatch):
  array = np.arange(84, dtype=np.int16).reshape(7, 4, 3)
  there = checks.checksum([array, np.zeros((0, 3))])
  for size in (1, 50, 10**6):
    monkeypatch.setattr(checks, '_PART', size)
    for same in (
      array,
      np.asfortranarray(array),
      np.repeat(array, 2, 1)[:, ::2],
    ):
      assert checks.checksum([same, np.zeros((0, 3))]) == there
  assert checks.checksum([array[::-1], np.zeros((0, 3))]) != there
  numbers = [np.float32(2), np.float32(3), np.full(1, 2, np.float32)]
  assert len({checks.checksum([np.asarray(x)]) for x in numbers}) == 3
  assert checks.checksum([array.reshape(7, 12), np.zeros((0, 3))]) != there
