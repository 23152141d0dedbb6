"""Options come from signatures, and reach the functions they belong to."""

import math
import os

import ml_collections
import pytest

import fedpm_jax as fp
from fedpm_jax.algorithms import ALGORITHMS
from fedpm_jax.compressors import COMPRESSORS
from fedpm_jax.experiments import build, options
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.schedules import SCHEDULES


def example(
  first: int,
  *,
  rate: float = 1,
  often: int | None = None,
  name: str = 'a',
  on: bool = False,
  participation: float = 1.0,
):
  """Does nothing.

  Args:
    first: not an option.
    rate: how fast.  Not more.
    often: how
      often; and why.
    name: of it.
    on: or off.
    participation: given.

  Raises:
    nothing: at all.
  """


def test_a_signature_becomes_options():
  found = options.of(example)
  assert found == {
    'rate': options.Option(1.0, float, 'how fast'),
    'often': options.Option(None, int, 'how often'),
    'name': options.Option('a', str, 'of it'),
    'on': options.Option(False, bool, 'or off'),
  }
  assert isinstance(found['rate'].default, float)
  assert options.takes(example, 'participation')


def test_an_option_without_a_type_is_refused():
  with pytest.raises(TypeError, match=r"Option 'x' .* a type of bool, int"):
    options.of(lambda *, x=[]: x)


@pytest.mark.parametrize('name', {**ALGORITHMS, **COMPRESSORS, **SCHEDULES})
def test_every_option_of_every_row_has_a_meaning(name):
  """A new row is tested here: its docstring explains each of its options."""
  for option, value in configs.ROW_OPTIONS.get(name, {}).items():
    assert value.meaning, f'{name}.{option}'


def test_rows_and_keys_have_different_names():
  keys = {path.partition('.')[0] for path in configs.KEYS}
  assert not keys & set(configs.ROW_OPTIONS)
  rows = [*ALGORITHMS, *COMPRESSORS, *SCHEDULES, *configs.OPTIMIZERS]
  assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
  ('text', 'kind', 'value'),
  [
    ('1', int, 1),
    ('1', float, 1.0),
    ('1e-3', float, 0.001),
    ('True', bool, True),
    ('0', bool, False),
    ('true', str, 'true'),
  ],
)
def test_values_of_a_command_line(text, kind, value):
  parsed = options.parse(text, kind)
  assert (parsed, type(parsed)) == (value, kind)


@pytest.mark.parametrize(
  ('text', 'kind', 'message'),
  [
    ('1.5', int, "expected an integer, got '1.5'"),
    ('much', float, "expected a number, got 'much'"),
    ('maybe', bool, "expected true or false, got 'maybe'"),
  ],
)
def test_values_that_are_none(text, kind, message):
  with pytest.raises(ValueError, match=message):
    options.parse(text, kind)


def test_only_sections_that_a_run_uses_are_written_and_compared():
  config = configs.default()
  plain = configs.to_dict(config)
  assert {'fedpm', 'adam'} <= set(plain)
  assert not {'qsgd', 'sgd', 'fedavg', 'cosine'} & set(plain)
  config.qsgd.levels = 7
  assert configs.to_dict(config) == plain
  config.wire.compressor = 'qsgd'
  assert configs.to_dict(config)['qsgd']['levels'] == 7
  again = configs.from_dict(configs.to_dict(config))
  assert configs.to_dict(again) == configs.to_dict(config)


def test_a_config_of_other_keys_is_of_another_version():
  plain = configs.to_dict(configs.default())
  with pytest.raises(ValueError, match='another version'):
    configs.from_dict(plain | {'no_such_key': 1})


def test_configs_are_found_by_name():
  digits = fp.config('digits')
  assert isinstance(digits, ml_collections.ConfigDict)
  assert digits.adam.b1 == 0.3
  assert fp.config('methods:qsgd').wire.compressor == 'qsgd'
  assert fp.config().rounds == configs.KEYS['rounds'].default
  digits.rounds = 3
  assert fp.config('digits').rounds == 30  # a fresh one each time
  with pytest.raises(ValueError, match=r"'digit': did you mean digits\?"):
    fp.config('digit')
  with pytest.raises(AttributeError, match='roundz'):
    digits.roundz = 3


def test_a_file_of_ones_own_is_read_anew_when_it_changes(tmp_path):
  path = tmp_path / 'own.py'
  text = """
from __future__ import annotations
import dataclasses
import fedpm_jax as fp


@dataclasses.dataclass
class Uses:
  module: str = 'of this file'


def get_config():
  config = fp.config()
  config.rounds = {}
  return config
"""
  for rounds in (3, 77):
    path.write_text(text.format(rounds))
    os.utime(path, ns=(0, rounds))
    assert fp.config(str(path)).rounds == rounds


def test_a_key_that_a_file_mistypes_is_one_line(tmp_path):
  path = tmp_path / 'own.py'
  text = 'import fedpm_jax as fp\ndef get_config():\n  c = fp.config()\n'
  path.write_text(text + '  c.round = 3\n  return c\n')
  with pytest.raises(
    ValueError, match=r"'round': did you mean config\.round"
  ) as e:
    fp.config(str(path))
  assert len(str(e.value)) < 300


def test_a_path_that_is_not_there_is_not_replaced_by_a_name():
  with pytest.raises(ValueError, match='no configuration'):
    fp.config('/does/not/exist/configs/digits.py')
  assert fp.config('configs/digits.py').rounds == 30


def test_an_option_that_is_not_set_can_be_unset():
  config = configs.default()
  configs.override(config, 'sgd.momentum', '0.9')
  configs.override(config, 'sgd.momentum', 'None')
  assert config.sgd.momentum is None
  config.optimizer.name = 'sgd'
  configs.validate(config)
  config.rounds = None
  with pytest.raises(ValueError, match=r'config\.rounds must be of type int'):
    configs.validate(config)


@pytest.mark.parametrize('final', [0.0, 0.25])
def test_cosine_goes_from_one_to_its_end(final):
  rate = SCHEDULES['cosine'](8, final=final)
  assert rate(0) == 1
  assert rate(4) == pytest.approx((1 + final) / 2)
  assert rate(8) == rate(9) == pytest.approx(final)
  steps = [rate(t) - rate(t + 1) for t in range(8)]
  assert min(steps) > 0
  assert steps[0] == pytest.approx(steps[-1])  # it is symmetric


def test_step_drops_every_few_rounds():
  rate = SCHEDULES['step'](9, every=3, factor=0.5)
  assert [rate(t) for t in (0, 2, 3, 5, 6)] == [1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
  ('name', 'options_', 'message'),
  [
    ('cosine', {'final': 2.0}, r'final must lie in \[0, 1\], got 2'),
    ('step', {'every': 0}, 'every must be at least 1'),
    ('step', {'factor': 0.0}, 'factor positive'),
  ],
)
def test_schedules_refuse_what_makes_no_sense(name, options_, message):
  config = configs.default()
  config.optimizer.schedule = name
  config[name].update(options_)
  with pytest.raises(ValueError, match=f'config.{name}: .*{message}'):
    build.step_factor(config)


def test_the_constant_schedule_leaves_the_program_as_it_is():
  assert build.step_factor(configs.default()) is None
  config = configs.default()
  config.optimizer.schedule, config.rounds = 'cosine', 4
  rate = build.step_factor(config)
  assert rate is not None
  assert rate(2) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
