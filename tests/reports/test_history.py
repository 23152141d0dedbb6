"""history.json: what it holds does not depend on where a run was interrupted."""

import copy
import json
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedpm_jax.reports import history, label_counts
from fedpm_jax.system import reading

LABELS = label_counts.digest(np.array([[3, 1], [0, 4]]))


def layers(rounds_done):
  """What theta is after a round: anything that tells the rounds apart."""
  counts = np.zeros(history.BINS, int)
  counts[rounds_done % history.BINS] = 7
  return {'conv': counts.tolist()}


def bits(rounds_done):
  return {
    'rounds_done': rounds_done,
    'tensors': ['conv/kernel'],
    'sizes': [7],
    'uplink': [float(rounds_done)],
    'downlink': None,
  }


def run(path, start, end, num_rounds, kept_every=10):
  """Rounds from start to end, as `experiments.observe` records them."""
  recorder = history.Recorder(path, start, LABELS)
  recorder.add(start, None if start else layers(0), None)
  for done in range(start + 1, end + 1):
    is_last = done == num_rounds
    due = history.is_due(done) or is_last
    kept = done % kept_every == 0 or is_last
    if due or kept:
      recorder.add(
        done, layers(done) if due else None, bits(done) if kept else None
      )


@hypothesis.settings(max_examples=25)
@hypothesis.given(st.data())
def test_an_interrupted_run_ends_with_the_same_file(tmp_path_factory, data):
  folder = tmp_path_factory.getbasetemp()
  one, other = folder / 'one.json', folder / 'other.json'
  num_rounds = data.draw(st.integers(1, 60))
  run(one, 0, num_rounds, num_rounds)
  killed = data.draw(st.integers(0, num_rounds))
  checkpoint = data.draw(st.integers(0, killed))
  run(other, 0, killed, num_rounds)
  run(other, checkpoint, num_rounds, num_rounds)
  assert other.read_bytes() == one.read_bytes()


@pytest.mark.parametrize('num_rounds', [1, 20, 21, 30, 300])
def test_some_twenty_rounds_are_kept_first_and_last_among_them(
  tmp_path, num_rounds
):
  path = tmp_path / history.NAME
  run(path, 0, num_rounds, num_rounds)
  found = history.read(path)
  rounds = [entry['rounds_done'] for entry in found['theta']]
  assert rounds[0] == 0
  assert rounds[-1] == num_rounds
  assert min(num_rounds + 1, 11) <= len(rounds) <= 22
  assert len({*np.diff(rounds)[:-1].tolist()}) <= 1  # evenly spread
  assert found['labels'] == LABELS
  assert found['bits'] == bits(num_rounds)
  assert path.stat().st_size < 5000


def test_rounds_may_grow(tmp_path):
  one, other = tmp_path / 'one.json', tmp_path / 'other.json'
  run(one, 0, 50, 50)
  run(other, 0, 33, 33)
  run(other, 33, 50, 50)
  assert other.read_bytes() == one.read_bytes()


def test_theta_of_a_layer_is_counted_bin_by_bin():
  rng = np.random.default_rng(0)
  q = rng.integers(1, 65536, 4000)
  theta = (q / 65536).astype(np.float32)
  found = history.by_layer(
    {
      'conv/bias': theta[:100],
      'conv/kernel': theta[100:2000].reshape(10, -1),
      'dense/kernel': theta[2000:],
    }
  )
  assert list(found) == ['conv', 'dense']
  for part, name in ((q[:2000], 'conv'), (q[2000:], 'dense')):
    plain = [int(np.sum(part * history.BINS // 65536 == b)) for b in range(32)]
    assert found[name] == plain


def good():
  return {
    'labels': LABELS,
    'theta': [
      {'rounds_done': done, 'layers': layers(done)} for done in (0, 1, 2)
    ],
    'bits': bits(2),
  }


def changed(value, *path):
  content = copy.deepcopy(good())
  *before, last = path
  inner = content
  for name in before:
    inner = inner[name]
  if value is ...:
    del inner[last]
  else:
    inner[last] = value
  return json.dumps(content)


CASES = {
  'nothing': ('', 'no JSON'),
  'half': (json.dumps(good())[:100], 'no JSON'),
  'a list': ('[]', 'must be an object'),
  'no labels': (changed(..., 'labels'), "no field 'labels'"),
  'no theta': (changed(..., 'theta'), "no field 'theta'"),
  'another size': (
    changed([1] * 32, 'theta', 1, 'layers', 'conv'),
    'as many parameters in all rounds, which is wrong after round 1',
  ),
  'too few bins': (changed([7], 'theta', 0, 'layers', 'conv'), '32 counts'),
  'another layer': (
    changed([7] + [0] * 31, 'theta', 2, 'layers', 'x'),
    'wrong',
  ),
  'a negative count': (
    changed([8, -1] + [0] * 30, 'theta', 0, 'layers', 'conv'),
    r'theta\[0\].layers.conv\[1\] must be an integer from 0',
  ),
  'no order': (changed(5, 'theta', 0, 'rounds_done'), 'in their order'),
  'too many': (
    changed(
      [{'rounds_done': t, 'layers': layers(0)} for t in range(41)], 'theta'
    ),
    'at most 40 rounds',
  ),
  'too few bits': (changed([], 'bits', 'uplink'), 'bits.uplink must be 1 num'),
  'too few sizes': (changed([], 'bits', 'sizes'), 'bits.sizes must be 1 num'),
  'negative bits': (changed([-1.0], 'bits', 'uplink'), 'bits.uplink'),
  'text for bits': (changed(['x'], 'bits', 'uplink'), 'bits.uplink'),
  'lost clients': (changed(3, 'labels', 'clients'), 'labels.counts'),
  'other labels': (changed([9, 5], 'labels', 'of_class'), 'labels.counts'),
  'no counts': (changed(None, 'labels', 'counts'), 'labels.counts'),
  'other examples': (
    changed([1], 'labels', 'examples', 'clients'),
    'labels.examples.clients must be 1 numbers that add up to 2',
  ),
  'other edges': (
    changed([4, 3], 'labels', 'examples', 'edges'),
    'labels.examples.edges',
  ),
}


@pytest.mark.parametrize('content', CASES.values(), ids=CASES)
def test_a_damaged_file_is_one_line(tmp_path, content):
  path = tmp_path / history.NAME
  path.write_text(json.dumps(good()))
  assert history.read(path) == good()
  path.write_text(content[0])
  with pytest.raises(reading.FileError, match=content[1]) as caught:
    history.read(path)
  message = str(caught.value)
  assert message.startswith(f'{path}: ')
  assert message.endswith('a run that goes on makes another.')
  assert len(message.splitlines()) == 1


@pytest.mark.parametrize('damage', [pathlib.Path.unlink, pathlib.Path.touch])
def test_a_run_goes_on_without_its_file(tmp_path, damage, caplog):
  path = tmp_path / history.NAME
  path.write_bytes(b'')
  damage(path)
  with caplog.at_level('WARNING', 'absl'):
    run(path, 10, 12, 12)
  assert bool(caplog.text) == (damage is pathlib.Path.touch)
  rounds = [entry['rounds_done'] for entry in history.read(path)['theta']]
  assert rounds == [11, 12]
