"""What a run takes of the disk is bounded, and told before."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_runs import small

import fedpm_jax as fp
from fedpm_jax.experiments import disk
from fedpm_jax.reports import archive

CONV10 = archive.Sizes(19_197_092, 10, 10, 400)


@pytest.mark.parametrize(
  ('num_rounds', 'every', 'room', 'kept'),
  [
    (30, 10, 9, [9, 19, 29]),
    (30, 0, 9, []),
    (35, 10, 4, [9, 19, 29, 34]),
    (35, 10, 3, [9, 19, 34]),
    (100, 10, 5, [9, 39, 79, 99]),
    (100, 10, 3, [9, 79, 99]),
    (100, 10, 2, [9, 99]),
    (100, 10, 1, [99]),
    (100, 10, 0, []),
    (5, 10, 1, [4]),
  ],
)
def test_the_rounds_that_are_kept(num_rounds, every, room, kept):
  plan = disk.plan(
    num_rounds, every=every, round_bytes=7, most_bytes=7 * room + 6
  )
  assert list(plan.rounds) == kept


@given(
  st.integers(1, 500), st.integers(1, 30), st.integers(0, 20), st.integers(0, 9)
)
def test_they_fit_and_a_longer_run_keeps_no_other_rounds(
  rounds, every, room, more
):
  plan = lambda n: disk.plan(n, every=every, round_bytes=3, most_bytes=3 * room)
  short, long = plan(rounds), plan(rounds + more)
  assert len(short.rounds) <= max(room, 0)
  if room >= 2:
    assert {min(every, rounds) - 1, rounds - 1} <= {*short.rounds}
  before = {t for t in long.rounds if t < rounds - 1}
  if room >= 2 and every <= rounds:
    assert before <= {*short.rounds}


def test_conv10_keeps_its_first_and_its_last_round():
  """All of its 40 rounds took 4 GB."""
  each = archive.num_bytes(CONV10)
  assert 40 * each > 4e9
  plan = disk.plan(400, every=10, round_bytes=each, most_bytes=250 * 10**6)
  assert plan.rounds == (9, 399)
  assert plan.wanted == 40


def test_a_run_keeps_what_it_says_and_no_byte_more(tmp_path, capsys):
  """Two rounds of 1.6 MB fit into 4 MB; a longer run makes room."""
  keep = {'wire.keep_every': 1, 'wire.keep_mb': 4}
  names = lambda: sorted(p.name for p in (tmp_path / 'run/symbols').iterdir())
  each = disk.kept(fp.Experiment(small(**keep))).round_bytes
  fp.train(small(rounds=2, **keep), tmp_path / 'run', verbose=True)
  assert names() == ['round_00000.npz', 'round_00001.npz']
  sizes = [p.stat().st_size for p in (tmp_path / 'run/symbols').iterdir()]
  assert all(0 <= each - size < 2**15 for size in sizes)
  assert '3.2 MB for the masks of 2 rounds.' in capsys.readouterr().out
  fp.train(small(rounds=4, **keep), tmp_path / 'run', verbose=True)
  assert names() == ['round_00000.npz', 'round_00003.npz']
  told = capsys.readouterr().out
  assert re.search(r'masks of 2 rounds, not of 4 as wire.keep_every says', told)


def test_nothing_is_kept_where_one_round_is_too_much(tmp_path, capsys):
  keep = {'wire.keep_every': 1, 'wire.keep_mb': 1, 'rounds': 1}
  fp.train(small(**keep), tmp_path / 'run', verbose=True)
  assert not (tmp_path / 'run' / 'symbols').exists()
  assert 'no masks are kept, because those of one' in capsys.readouterr().out


def test_checkpoints_take_less_than_is_said(tmp_path, capsys):
  fp.train(small(rounds=2), tmp_path / 'run', verbose=True)
  said = re.search(
    r'At most ([\d.]+) MB of disk for checkp', capsys.readouterr().out
  )
  files = (tmp_path / 'run' / 'checkpoints').rglob('*')
  taken = sum(path.stat().st_size for path in files if path.is_file())
  assert said
  assert 0 < taken < float(said[1]) * 1e6
