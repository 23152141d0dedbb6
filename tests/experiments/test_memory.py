"""A device without memory: the line names the size to try next."""

import jax
import pytest
from small_runs import small

import fedpm_jax as fp
from fedpm_jax import cli
from fedpm_jax.experiments import memory, workers


def raising(error):
  def function(*_, **__):
    raise error

  return function


def exhausted():
  """As XLA raises it, with a note of JAX."""
  error = jax.errors.JaxRuntimeError(
    'RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.\nmore of it'
  )
  error.add_note('For simplicity, JAX has removed its internal frames')
  return error


_HALF = ' --config.evaluation.batch_size=125'
_NOTHING = 'another config.model alone'
SIZES = [
  # chunk, batch_size, evaluation.batch_size; while training; in an evaluation
  ((8, 32, 250), ' --config.execution.chunk=4', _HALF),
  ((5, 32, 1), ' --config.execution.chunk=2', _NOTHING),
  ((1, 32, 250), ' --config.batch_size=16', _HALF),
  ((1, 3, 1), ' --config.batch_size=1', _NOTHING),
  ((1, 1, 250), _HALF, _HALF),
]


@pytest.mark.parametrize(('sizes', 'trains', 'evaluates'), SIZES)
def test_the_next_size_follows_from_the_configuration(sizes, trains, evaluates):
  config = fp.config()
  config.execution.chunk, config.batch_size = sizes[:2]
  config.evaluation.batch_size = sizes[2]
  said = memory.advice(config), memory.advice(config, evaluates=True)
  for found, expected in zip(said, (trains, evaluates), strict=True):
    instead = '' if expected == _NOTHING else ' instead of '
    assert f'{expected}{instead}' in found


def test_nothing_is_left_to_halve():
  config = small(batch_size=1, **{'evaluation.batch_size': 1})
  assert 'another config.model alone' in memory.advice(config)


@pytest.fixture(scope='module')
def experiment():
  return fp.Experiment(small(**{'execution.chunk': 2}))


def line_of(error):
  with pytest.raises(SystemExit) as caught:
    cli.guarded(raising(error))
  return str(caught.value.code)


@pytest.mark.parametrize(
  ('part', 'step', 'flag'),
  [
    ('engine', 'run_round', 'execution.chunk=1 instead of 2'),
    ('evaluation', 'evaluate', 'evaluation.batch_size=125 instead of 250'),
  ],
)
def test_a_round_and_an_evaluation_say_what_they_need(
  experiment, monkeypatch, part, step, flag
):
  _ = experiment.state
  if part == 'engine':
    monkeypatch.setattr(type(experiment.engine), 'run', raising(exhausted()))
  else:
    fails = experiment._evaluation._replace(results=raising(exhausted()))
    monkeypatch.setattr(experiment, '_evaluation', fails)
  with pytest.raises(jax.errors.JaxRuntimeError) as caught:
    getattr(experiment, step)()
  line = line_of(caught.value)
  assert line.startswith(
    'error: There is not enough memory. The device says: RESOURCE_EXHAUSTED: Out'
    f' of memory allocating 7 bytes. Less memory is needed with --config.{flag}: '
  )
  assert 'For simplicity' not in line
  experiment.set_state(experiment.first_state(), 0)


def test_where_no_configuration_helps_another_one_is_not_named():
  assert 'Do other programs use' in line_of(exhausted())


def test_another_error_gets_no_advice():
  error = ValueError('no')
  with pytest.raises(ValueError), memory.explained(small()):
    raise error
  assert not hasattr(error, '__notes__')


def test_a_run_of_a_sweep_says_it_too(tmp_path):
  def function(config, folder, **_):
    with memory.explained(config):
      raise exhausted()

  outcome = workers.run_one(workers.Task(tmp_path, small()), function)
  assert '--config.batch_size=4 instead of 8' in outcome.error
  assert outcome.error in (tmp_path / 'error.txt').read_text()
