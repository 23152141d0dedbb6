"""Runs on rows of a table and on tokens, from arrays to a model file."""

import numpy as np
import pytest
import small_runs
from flax import linen as nn

import fedpm_jax as fp


class Bag(nn.Module):
  """A text classifier: the mean of embedded tokens, then two dense layers."""

  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(40, 32)(tokens).mean(1)
    return nn.Dense(3)(nn.relu(nn.Dense(64)(x)))


def split(inputs, labels):
  return fp.Dataset(
    'own', inputs[:240], labels[:240], inputs[240:], labels[240:], 3
  )


def table():
  """Rows of 5 numbers; the class is which of the first three is largest."""
  rows = np.random.default_rng(0).normal(size=(360, 5)).astype(np.float32)
  return split(3 * rows, np.argmax(rows[:, :3], 1))


def sentences():
  """12 tokens of 40; each class uses ten tokens of its own half of the time."""
  rng = np.random.default_rng(0)
  labels = np.arange(360) % 3
  common = rng.integers(30, 40, (360, 12))
  own = rng.integers(0, 10, (360, 12)) + 10 * labels[:, None]
  chosen = np.where(rng.random((360, 12)) < 0.5, own, common)
  return split(chosen.astype(np.int32), labels)


CASES = {
  'table': (table, {'model': 'lenet'}, None),
  'tokens': (sentences, {}, Bag()),
}


@pytest.mark.parametrize('name', CASES)
def test_a_run_learns_them_and_its_file_takes_them(name, tmp_path):
  data, changes, module = CASES[name]
  parts = {'dataset': data()} | ({'model': module} if module else {})
  config = small_runs.small(
    **{'rounds': 12, 'local_epochs': 3, 'data.max_examples': 0} | changes
  )
  summary = fp.train(config, tmp_path / 'run', **parts)
  assert summary['last']['eval/accuracy_mean'] > 0.85
  assert summary['last']['eval/accuracy_sampled'] > 0.75
  inputs, labels = parts['dataset'].x_test, parts['dataset'].y_test
  model = fp.load(tmp_path / 'run' / 'model.fedpm', model=module)
  assert model.spec.image_shape == inputs.shape[1:]
  assert model.spec.unscaled == inputs.dtype.name
  right = np.argmax(model(inputs), axis=1) == labels
  assert right.mean() > 0.75
  other = inputs.astype(np.float64)
  with pytest.raises(
    ValueError, match=f'Expected {inputs.dtype} inputs .*, got'
  ):
    model(other)
  with pytest.raises(ValueError, match='Expected'):
    model(inputs[:, :-1])
  if module:
    with pytest.raises(ValueError, match='at least 0, got -1'):
      model(np.minimum(inputs, inputs.max() - inputs - 1).clip(-1))


def test_a_token_beyond_the_vocabulary_is_named_as_the_cause():
  data = sentences()
  data.x_train[200, 3] = 40  # one of many
  config = small_runs.small(**{'data.max_examples': 0})
  run = fp.Experiment(config, dataset=data, model=Bag())
  with pytest.raises(
    FloatingPointError, match=r'tokens .* largest token is 40'
  ):
    next(run.rounds())


def test_one_in_the_test_set_alone_is_told_of_once(caplog):
  data = sentences()
  data.x_test[5, 3] = 40
  config = small_runs.small(**{'data.max_examples': 0, 'evaluation.every': 1})
  run = fp.Experiment(config, dataset=data, model=Bag())
  for row in run.rounds():
    assert np.isnan(row['eval/loss_mean'])
    assert np.isfinite(row['train/loss'])
  said = [r.getMessage() for r in caplog.records if 'not finite' in r.message]
  assert len(said) == 1
  assert 'largest token of x_test is 40, that of x_train 39' in said[0]


@pytest.mark.parametrize('name', CASES)
def test_a_model_of_images_refuses_them_before_any_round(name):
  data = CASES[name][0]()
  message = r"takes images .* 'lenet'|takes no tokens, .* of your own"
  with pytest.raises(ValueError, match=message):
    fp.Experiment(small_runs.small(model='conv4'), dataset=data)
