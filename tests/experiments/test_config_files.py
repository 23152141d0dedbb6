"""Configuration files with mistakes: one line that names the file and line."""

import re

import pytest

from fedpm_jax.experiments import config_files, sweeps

GOOD = 'import fedpm_jax as fp\ndef get_config():\n  return fp.config()\n'
CHANGED = 'import fedpm_jax as fp\ndef get_config():\n  c = fp.config()\n'


@pytest.mark.parametrize(
  ('content', 'line', 'message'),
  [
    ('x = 1', None, r'has no function get_config\(\) -> ConfigDict'),
    ('get_config = 3', None, 'get_config must be a function, got 3'),
    ('def get_config(:\n  pass', 1, 'SyntaxError: invalid syntax$'),
    ('x = 1\n\nx = (', 3, "SyntaxError: '\\(' was never closed$"),
    ('x = 1\nimport no_such_module', 2, 'ModuleNotFoundError: No module named'),
    (CHANGED + '  c.rounds = 1 / 0', 4, 'ZeroDivisionError: division by zero'),
    (CHANGED + "  c.rounds = 'many'", 4, 'TypeError: .*<class .int.>'),
    (CHANGED + '  c.roundz = 3', 4, 'no key .roundz.: .*config.rounds'),
    (CHANGED + "  raise ValueError('a\\nb')", 4, 'a b$'),
    (CHANGED, None, 'must return a ConfigDict.*, got None'),
    ('def get_config():\n  return {"rounds": 3}', None, "got {'rounds': 3}"),
    (
      'from ml_collections import ConfigDict\n'
      'def get_config():\n  return ConfigDict({"seed": 3})',
      None,
      "all keys, .*this one has no 'rounds'",
    ),
    (GOOD.replace('()', '(name)', 1), None, r'get_config\(name\) is called'),
  ],
)
def test_a_mistake_names_the_file_and_its_line(
  tmp_path, content, line, message
):
  path = tmp_path / 'mine.py'
  path.write_text(content)
  with pytest.raises(ValueError, match=message) as caught:
    config_files.read(str(path))
  said = str(caught.value)
  assert len(said.splitlines()) == 1
  assert said.startswith(str(path))
  assert re.findall(r'mine\.py, line (\d+): ', said) == (
    [str(line)] if line else []
  )


@pytest.mark.parametrize('content', [b'\xff\xfe bad', b'x = 1\0'])
def test_a_file_that_is_no_python_is_named(tmp_path, content):
  path = tmp_path / 'mine.py'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r'mine\.py.*: SyntaxError: '):
    config_files.read(str(path))


def test_an_argument_that_a_file_does_not_take():
  with pytest.raises(ValueError, match=r'digits\.py: get_config\(\) is called'):
    config_files.read('digits:x')


@pytest.mark.parametrize(
  ('body', 'message'),
  [
    ("{'model': undefined}", r'mine\.py, line 5: NameError: .*undefined'),
    ("{'data': 3}", r"keys of \['dataset', .*\], got \['data'\]"),
    ('7', r'must give a dict .*, got 7'),
    ("open('/no/such/file')", r'mine\.py, line 5: FileNotFoundError: '),
  ],
)
def test_parts_with_mistakes(tmp_path, body, message):
  path = tmp_path / 'mine.py'
  path.write_text(f'{GOOD}def get_parts(config):\n  return {body}\n')
  loaded = config_files.read(str(path))
  with pytest.raises(ValueError, match=message):
    loaded.parts()


def test_memory_that_is_not_there_stays_what_it_is(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(GOOD + 'def get_parts(config):\n  raise MemoryError(3)\n')
  with pytest.raises(MemoryError):
    config_files.read(str(path)).parts()


SWEEP = 'from fedpm_jax.experiments import config, sweeps\n'


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('get_sweep = 3', 'get_sweep must be a function'),
    ('def get_sweep():\n  return None', r'get_sweep\(\) must return a list'),
    ('def get_sweep():\n  return [1]', r'run 0 of get_sweep\(\) must be a sw'),
    ('def get_sweep():\n  return 1 / 0', r'mine\.py, line 3: ZeroDivision'),
    (
      'def get_sweep():\n  return [sweeps.Run({"data": "a"}, None)]',
      "run 0 of .*'data': 'a'.* must return a ConfigDict",
    ),
    (
      'def get_sweep():\n  return [sweeps.Run(3, config.default())]',
      'must be a sweeps.Run with labels',
    ),
  ],
)
def test_a_sweep_with_mistakes(tmp_path, content, message):
  path = tmp_path / 'mine.py'
  path.write_text(SWEEP + content)
  with pytest.raises(ValueError, match=message) as caught:
    sweeps.read(path)
  assert str(path) in str(caught.value)
  assert len(str(caught.value).splitlines()) == 1
