"""Archives of symbols: what comes back is what was kept, or one error."""

import io
import re
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.reports import archive
from fedpm_jax.simulation.rounds import Kept
from fedpm_jax.system import reading

SIZES = archive.Sizes(
  num_parameters=21, num_clients=5, clients_per_round=3, num_rounds=30
)


def kept(round_idx, count=3):
  """A round of made-up masks."""
  rng = np.random.default_rng(round_idx)
  integers = lambda high, *shape: rng.integers(1, high, shape)
  return Kept(
    round_idx,
    np.arange(count, dtype=np.int32),
    integers(65536, 21).astype(np.uint16),
    integers(256, count, 3).astype(np.uint8),
    integers(65536, 21).astype(np.uint16),
    integers(2, 5).astype(np.bool_),
  )


def assert_same(one, other):
  for name in Kept._fields:
    a, b = getattr(one, name), getattr(other, name)
    np.testing.assert_array_equal(a, b)
    assert np.asarray(a).dtype == np.asarray(b).dtype


@pytest.fixture
def workdir(tmp_path):
  """Three kept rounds, in one of which a client is missing."""
  for t, count in ((9, 3), (19, 2), (29, 3)):
    archive.save(tmp_path, kept(t, count))
  return tmp_path


def test_what_is_kept_comes_back(workdir):
  loaded, damaged = archive.load(workdir, SIZES)
  assert not damaged
  for before, after in zip(
    [kept(9), kept(19, 2), kept(29)], loaded, strict=True
  ):
    assert_same(before, after)
  with pytest.raises(ValueError, match='keeps no symbols'):
    archive.load(workdir / 'nothing', SIZES)


def npz(**changes):
  """A file with other arrays; one that is None is left out."""
  arrays = kept(19)._asdict() | changes
  file = io.BytesIO()
  np.savez(file, **{k: v for k, v in arrays.items() if v is not None})
  return file.getvalue()


def zipped(members):
  """A compressed zip file of these bytes."""
  file = io.BytesIO()
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of the same name twice
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as made:
      for name, content in members:
        made.writestr(name, content)
  return file.getvalue()


def npy(shape, kind='<u2', content=b''):
  """A .npy file whose header promises whatever it likes."""
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    file, {'descr': kind, 'fortran_order': False, 'shape': shape}
  )
  return file.getvalue() + content


def with_q(content):
  """A zip file in which q is these bytes."""
  members = []
  for name, value in kept(19)._asdict().items():
    file = io.BytesIO()
    np.save(file, value)
    members.append((f'{name}.npy', content if name == 'q' else file.getvalue()))
  return zipped(members)


def flipped(data):
  """One bit of the masks is another."""
  at = data.index(kept(19).symbols.tobytes())
  return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


GOOD = npz()
ids = lambda *values: np.array(values, np.int32)
DAMAGES = {
  'empty': (b'', 'no whole archive'),
  'random bytes': (bytes(range(256)) * 2, 'no whole archive'),
  'cut': (GOOD[:-30], 'no whole archive'),
  'cut in the middle': (GOOD[: len(GOOD) // 2], 'no whole archive'),
  'flipped bit': (flipped(GOOD), 'Bad CRC-32'),
  'pickled': (npz(q=np.array([{}], object)), r'q\.npy must hold numbers, got'),
  'no ids': (npz(ids=None), r"it must hold \['ids.npy'"),
  'more': (npz(more=np.zeros(3)), r"it must hold \['ids.npy'"),
  'twice': (zipped([('q.npy', b'')] * 6), r"it must hold \['ids.npy'"),
  'other type': (npz(q=np.zeros(21)), r'q must be uint16 \[21\], got float64 '),
  'text': (npz(q=np.array(['a'] * 21)), r'q must be uint16 \[21\], got <U1'),
  'other d': (npz(q=np.ones(20, np.uint16)), r'\[21\], got uint16 \[20\]'),
  'other K': (npz(ids=ids(0, 1)), r'symbols must be uint8 \[2, 3\]'),
  'ids twice': (npz(ids=ids(0, 1, 1)), 'ids must be different ones of 5 cl'),
  'ids too large': (npz(ids=ids(0, 1, 5)), 'ids must be different ones of 5'),
  'ids below 0': (npz(ids=ids(0, 1, -1)), 'ids must be different ones of 5'),
  'nobody': (
    npz(ids=ids(), symbols=np.zeros((0, 3), np.uint8)),
    'ids must be those of 1 to 3 clients, got 0',
  ),
  'too many': (
    npz(ids=ids(0, 1, 2, 3), symbols=np.zeros((4, 3), np.uint8)),
    'ids must be those of 1 to 3 clients, got 4',
  ),
  'theta 0': (npz(known_q=np.zeros(21, np.uint16)), 'known_q must be at le'),
  'other round': (npz(round_idx=18), 'round_idx must be that of the name'),
  'round in text': (npz(round_idx='19'), r'round_idx must be int64 \[\], got'),
  'bomb': (
    with_q(npy((2**22,)) + bytes(2**23)),
    r'q\.npy must have at most 4,138 bytes, got 8,38',
  ),
  'large file': (GOOD + bytes(10**5), 'it must have at most 24,'),
  'promised': (with_q(npy((2**40,))), r'\(1099511627776,\) values, got 0'),
  'promised more': (with_q(npy((2**62, 2**62))), r'q\.npy must hold .* got 0'),
  'no header': (with_q(b'\x93NUMPY\x01\x00\xff\xffabc'), 'EOF'),
  'odd header': (with_q(npy((21,)).replace(b'(', b'[')), 'header|shape'),
  'a list': (with_q(b'[1, 2]'), 'magic string'),
}


@pytest.mark.parametrize(('content', 'message'), DAMAGES.values(), ids=DAMAGES)
def test_what_is_wrong_is_one_line_and_the_others_are_read(
  workdir, content, message
):
  path = workdir / 'symbols/round_00019.npz'
  path.write_bytes(content)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # NumPy's, of odd headers
    loaded, (error,) = archive.load(workdir, SIZES)
  assert str(error).startswith(f'{path}: ')
  assert re.search(f'{message}.* of another run: delete it', str(error))
  assert 'allow_pickle' not in str(error)
  for before, after in zip([kept(9), kept(29)], loaded, strict=True):
    assert_same(before, after)


def test_a_folder_in_its_place(workdir):
  path = workdir / 'symbols/round_00019.npz'
  path.unlink()
  path.mkdir()
  _, (error,) = archive.load(workdir, SIZES)
  assert 'it cannot be read (Is a directory)' in str(error)


def test_an_archive_beyond_the_last_round(workdir):
  sizes = SIZES._replace(num_rounds=29)
  _, (error,) = archive.load(workdir, sizes)
  assert 'one of 29 rounds, got 29' in str(error)


def test_where_no_archive_is_whole_the_first_is_the_error(workdir):
  for path in archive.paths(workdir):
    path.write_bytes(b'')
  with pytest.raises(reading.FileError, match=r'round_00009\.npz.*delete it'):
    archive.load(workdir, SIZES)


def test_a_promise_of_gigabytes_takes_none(workdir):
  path = workdir / 'symbols/round_00019.npz'
  tracemalloc.start()
  for content in (with_q(npy((2**33,))), DAMAGES['bomb'][0]):
    path.write_bytes(content)
    _, (_,) = archive.load(workdir, SIZES)
  with open(path, 'wb') as file:
    file.truncate(2**40)  # of holes, which take no room
  _, (_,) = archive.load(workdir, SIZES)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 2**20


@given(
  st.integers(0, len(GOOD) - 1),
  st.integers(1, 255),
  st.sampled_from(['flip', 'cut', 'insert']),
)
def test_no_damage_gives_other_arrays_or_another_error(
  tmp_path_factory, at, change, how
):
  path = tmp_path_factory.getbasetemp() / 'round_00019.npz'
  tail = {
    'flip': bytes([GOOD[at] ^ change]) + GOOD[at + 1 :],
    'cut': b'',
    'insert': bytes([change]) + GOOD[at:],
  }[how]
  path.write_bytes(GOOD[:at] + tail)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # NumPy's, of odd headers
    try:
      assert_same(archive.read(path, SIZES), kept(19))
    except reading.FileError:
      return
