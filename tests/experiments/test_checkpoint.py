"""Checkpoints: bit-exact, complete, and only for the run they belong to."""

import contextlib
import json
import pathlib
import shutil

import chex
import fake_runs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging

from fedpm_jax.experiments import arrays, checkpoint
from fedpm_jax.protocol.server import Held
from fedpm_jax.reports import records
from fedpm_jax.simulation import rounds
from fedpm_jax.system import reading

CONFIG = {'seed': 0, 'data': {'name': 'digits'}}


def _state(value):
  scores = jnp.full(5, value, jnp.float32)
  server = {'q': jnp.full(5, 7, jnp.uint16), 'scores': scores}
  known = Held(server['q'], jnp.ones(3, jnp.bool_))
  return rounds.State(server, optax.adam(0.1).init(scores), known)


def _recorded(folder, number):
  """A metrics.jsonl of so many rounds."""
  rows = [fake_runs.row(i, 0.5 + i / 100, 10, 10) for i in range(number)]
  path = folder / 'metrics.jsonl'
  with contextlib.closing(records.Recorder(path, rows)) as recorder:
    return recorder.mark


def _save(folder, *numbers, keep=2, next_round=0):
  with contextlib.closing(
    checkpoint.Writer(folder, keep=keep, next_round=next_round)
  ) as writer:
    for number in numbers:
      writer.save(
        _state(float(number)), number, CONFIG, _recorded(folder, number)
      )
      writer.wait()


def _restore(folder, config=CONFIG, **options):
  return checkpoint.restore(folder, _state(0.0), config, **options)


def _names(folder):
  return {path.name for path in (folder / 'checkpoints').iterdir()}


def test_round_trip_keeps_structure_and_bits(tmp_path):
  state = _state(1 / 3)
  assert _restore(tmp_path) is None
  with contextlib.closing(checkpoint.Writer(tmp_path, next_round=0)) as writer:
    writer.save(state, 4, CONFIG, _recorded(tmp_path, 4))
  restored = _restore(tmp_path)
  assert restored
  assert restored.next_round == 4
  assert jax.tree.structure(restored.state) == jax.tree.structure(state)
  chex.assert_trees_all_equal(restored.state, state)
  assert restored.state.server['q'].dtype == jnp.uint16


def test_what_is_saved_is_the_state_of_that_moment(tmp_path):
  """The next round consumes the state while it is being written."""
  x = jnp.full(200_000, 7, jnp.uint16)
  consume = jax.jit(lambda x: x + 1, donate_argnums=0)
  with contextlib.closing(checkpoint.Writer(tmp_path, next_round=0)) as writer:
    writer.save({'x': x}, 1, CONFIG, _recorded(tmp_path, 1))
    jax.block_until_ready(consume(x))
  like = {'x': jnp.zeros(200_000, jnp.uint16)}
  restored = checkpoint.restore(tmp_path, like, CONFIG)
  assert restored
  assert x.is_deleted()
  assert np.all(restored.state['x'] == 7)


def test_latest_of_several_wins_and_old_ones_go(tmp_path):
  _save(tmp_path, 1, 2, 3)
  restored = _restore(tmp_path)
  assert restored.next_round == 3
  assert restored.state.server['scores'][0] == 3
  assert _names(tmp_path) == {'2', '3'}


def test_a_run_that_went_back_replaces_what_is_newer(tmp_path):
  _save(tmp_path, 20, 30)
  (tmp_path / 'checkpoints' / '30' / 'run.json').write_text('damaged')
  _save(tmp_path, 25, next_round=20)
  assert _names(tmp_path) == {'20', '25'}
  _save(tmp_path, 25, next_round=25)  # The name is taken.
  assert _restore(tmp_path).next_round == 25


def test_a_damaged_checkpoint_is_none_of_those_that_are_kept(tmp_path):
  _save(tmp_path, 3, 4)
  (tmp_path / 'checkpoints' / '4' / 'run.json').write_text('damaged')
  _save(tmp_path, 5, next_round=_restore(tmp_path).next_round)
  assert _names(tmp_path) == {'3', '5'}


@pytest.mark.parametrize('name', ['.2.abc.tmp', 'other', '2.orbax', '-1', '²'])
def test_what_is_no_checkpoint_is_left_alone(tmp_path, name):
  _save(tmp_path, 1)
  (tmp_path / 'checkpoints' / name).mkdir()
  assert _restore(tmp_path).next_round == 1


def _empty(path):
  path.write_bytes(b'')


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _change(key, value):
  def damage(path):
    whole = json.loads(path.read_text())
    whole['content'][key] = value
    path.write_text(json.dumps(whole))

  return damage


def _every(damage):
  """Power loss: all files are there, and none has its content."""

  def damage_all(path):
    for file in path.rglob('*'):
      if file.is_file():
        damage(file)

  return damage_all


DAMAGES = {
  'all files empty': ('', _every(_empty)),
  'all files cut': ('', _every(_cut)),
  'no state': ('state', shutil.rmtree),
  'no manifest': ('state/manifest.ocdbt', pathlib.Path.unlink),
  'manifest flipped': ('state/manifest.ocdbt', _flip),
  'data flipped': ('state/d', _every(_flip)),
  'no rows': ('metrics.jsonl', pathlib.Path.unlink),
  'rows cut': ('metrics.jsonl', _cut),
  'rows flipped': ('metrics.jsonl', _flip),
  'no run.json': ('run.json', pathlib.Path.unlink),
  'run.json flipped': ('run.json', _flip),
  'another round': ('run.json', _change('next_round', 3)),
  'another seed': ('run.json', _change('config', {'seed': 1})),
  'no arrays': ('run.json', _change('arrays', {})),
}


@pytest.fixture
def warnings(monkeypatch):
  """The warnings of the test, as text."""
  found = []
  monkeypatch.setattr(
    logging, 'warning', lambda text, *rest: found.append(text % rest)
  )
  return found


@pytest.mark.parametrize('name', DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
  tmp_path, warnings, name
):
  _save(tmp_path, 1, 2)
  inner, damage = DAMAGES[name]
  damage(tmp_path / 'checkpoints' / '2' / inner)
  restored = _restore(tmp_path)
  assert restored.next_round == 1
  chex.assert_trees_all_equal(restored.state, _state(1.0))
  (warning,) = warnings
  assert str(tmp_path / 'checkpoints' / '2') in warning
  assert 'The checkpoint of round 1 is used.' in warning
  assert '\n' not in warning


def test_no_bit_of_the_arrays_can_change_silently(tmp_path, warnings):
  """Every file, one bit at each of some places: the state, or the one before."""
  _save(tmp_path, 1, 2)
  rng = np.random.default_rng(0)
  states = {1: _state(1.0), 2: _state(2.0)}
  found = {1: 0, 2: 0}
  paths = sorted((tmp_path / 'checkpoints' / '2').rglob('*'))
  for path in [p for p in paths if p.is_file() and p.stat().st_size]:
    whole = path.read_bytes()
    for place in rng.integers(len(whole), size=3):
      damaged = bytearray(whole)
      damaged[place] ^= 1 << rng.integers(8)
      path.write_bytes(damaged)
      restored = _restore(tmp_path)
      found[restored.next_round] += 1
      chex.assert_trees_all_equal(restored.state, states[restored.next_round])
    path.write_bytes(whole)
  assert found[1] >= 10, found
  assert len(warnings) == found[1]


def test_a_bit_of_a_large_array_is_found_by_our_checksum(tmp_path, warnings):
  """Small arrays are checked by orbax's format too, files of data are not."""
  rng = np.random.default_rng(0)
  state = {'x': rng.integers(0, 2**16, 200_000, np.uint16)}
  like = jax.tree.map(np.zeros_like, state)
  with contextlib.closing(checkpoint.Writer(tmp_path, next_round=0)) as writer:
    for number in (1, 2):
      writer.save(state, number, CONFIG, _recorded(tmp_path, number))
      writer.wait()
  folder = tmp_path / 'checkpoints' / '2' / 'state'
  paths = [p for p in folder.rglob('*') if p.is_file()]
  path = max(paths, key=lambda p: p.stat().st_size)
  _flip(path)
  restored = checkpoint.restore(tmp_path, like, CONFIG)
  assert restored
  assert restored.next_round == 1
  assert 'the checksum of x does not match' in warnings[0]


def test_where_every_checkpoint_is_damaged_it_is_said_what_to_do(tmp_path):
  _save(tmp_path, 1, 2)
  for number in '12':
    _empty(tmp_path / 'checkpoints' / number / 'run.json')
  with pytest.raises(reading.FileError) as caught:
    _restore(tmp_path)
  message = str(caught.value)
  assert message.startswith(f'{tmp_path / "checkpoints"}: no checkpoint can be')
  assert message.count('it is no JSON') == 2
  assert message.endswith(
    'Delete this folder to start again at round 1, or use a new --workdir.'
  )
  assert '\n' not in message


def test_a_checkpoint_gives_the_rows_back_whatever_became_of_them(tmp_path):
  _save(tmp_path, 1, 3)
  rows = records.read_rows(tmp_path / 'metrics.jsonl')
  (tmp_path / 'metrics.jsonl').write_text('damaged')
  assert _restore(tmp_path).rows == rows
  assert len(rows) == 3


def test_rows_that_come_later_are_not_the_checkpoints(tmp_path):
  """The run goes on while it is being written."""
  mark = _recorded(tmp_path, 2)
  _recorded(tmp_path, 4)
  with contextlib.closing(checkpoint.Writer(tmp_path, next_round=0)) as writer:
    writer.save(_state(2.0), 2, CONFIG, mark)
  assert [row['round_idx'] for row in _restore(tmp_path).rows] == [0, 1]


def test_what_cannot_be_written_is_one_error_and_leaves_the_one_before(
  tmp_path, monkeypatch
):
  _save(tmp_path, 1)

  def fail(path, state):
    del state
    path.mkdir()
    (path / 'half').write_bytes(b'written')
    raise ValueError("Many lines\n[os_error_code='28']\nof orbax")

  monkeypatch.setattr(arrays, 'write', fail)
  with contextlib.closing(checkpoint.Writer(tmp_path, next_round=1)) as writer:
    writer.save(_state(2.0), 2, CONFIG, _recorded(tmp_path, 2))
    with pytest.raises(OSError, match=r'not be written \(No space left on'):
      writer.wait()
  assert _names(tmp_path) == {'1'}
  assert _restore(tmp_path).next_round == 1


def test_an_error_on_its_way_is_not_replaced(tmp_path, monkeypatch, warnings):
  def fail(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(arrays, 'write', fail)

  def diverge():
    with contextlib.closing(
      checkpoint.Writer(tmp_path, next_round=0)
    ) as writer:
      writer.save(_state(2.0), 2, CONFIG, _recorded(tmp_path, 2))
      raise FloatingPointError('Round 3')

  with pytest.raises(FloatingPointError, match='Round 3'):
    diverge()
  assert 'could not be written (No space left on device)' in warnings[0]


def test_another_config_is_an_error_that_names_the_difference(tmp_path):
  _save(tmp_path, 1)
  other = {'seed': 1, 'data': {'name': 'mnist'}}
  with pytest.raises(ValueError, match='another config') as error:
    _restore(tmp_path, other)
  assert not isinstance(error.value, reading.FileError)
  assert "data.name: 'digits' there, 'mnist' here" in str(error.value)
  assert 'seed: 0 there, 1 here' in str(error.value)


def test_what_decides_no_number_may_differ(tmp_path):
  often = {'evaluation': {'every': 1}, 'checkpoint': {'keep': 2}}
  rarely = {'evaluation': {'every': 7}, 'checkpoint': {'keep': 9}}
  with contextlib.closing(checkpoint.Writer(tmp_path, next_round=0)) as writer:
    writer.save(_state(1.0), 1, CONFIG | often, _recorded(tmp_path, 1))
  assert _restore(tmp_path, CONFIG | rarely)


def test_another_dtype_is_an_error_and_not_a_cast(tmp_path):
  _save(tmp_path, 1)
  other = _state(0.0)
  other = other._replace(
    server=other.server | {'q': other.server['q'].astype(jnp.int32)}
  )
  message = r'server\.q: .uint16\[5\]. there, .int32\[5\]. here'
  with pytest.raises(ValueError, match=message):
    checkpoint.restore(tmp_path, other, CONFIG)


@pytest.mark.parametrize(
  ('every', 'expected'),
  [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (5, [4]), (0, [4]), (9, [4])],
)
def test_is_due(every, expected):
  due = [t for t in range(5) if checkpoint.is_due(t, every=every, last=4)]
  assert due == expected


def test_differences_of_nested_configs():
  found = checkpoint.differences(
    {'a': 1, 'b': {'c': 2, 'd': 3}}, {'a': 1, 'b': {'c': 4}, 'e': 5}
  )
  assert found == [
    'b.c: 2 there, 4 here',
    "b.d: 3 there, '(absent)' here",
    "e: '(absent)' there, 5 here",
  ]


def test_a_run_that_goes_on_replaces_what_is_being_read(tmp_path, monkeypatch):
  _save(tmp_path, 1)
  read = arrays.read

  def slow(path, like):
    if path.parent.name == '1':
      _save(tmp_path, 2, keep=1)
    return read(path, like)

  monkeypatch.setattr(arrays, 'read', slow)
  restored = _restore(tmp_path)
  assert _names(tmp_path) == {'2'}
  assert restored.next_round == 2
