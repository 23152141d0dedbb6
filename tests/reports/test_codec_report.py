"""`report --bits` of a folder in which something is damaged."""

import json
import re
import shutil

import numpy as np
import pytest
import small_runs

import fedpm_jax as fp
from fedpm_jax import report
from fedpm_jax.experiments import codec_report
from fedpm_jax.system import reading


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run of two kept rounds, its table and its bits.csv."""
  workdir = tmp_path_factory.mktemp('bits') / 'run $x$'
  fp.train(small_runs.small(**{'wire.keep_every': 1}), workdir)
  text = codec_report.compare_codecs(workdir)
  return workdir, text, (workdir / 'bits.csv').read_text(encoding='utf-8')


@pytest.fixture
def workdir(whole, tmp_path):
  """A copy of it, to be damaged."""
  folder = tmp_path / 'copy'
  leave_out = shutil.ignore_patterns('checkpoints', 'bits.*')
  return shutil.copytree(whole[0], folder, ignore=leave_out)


def cut(path):
  path.write_bytes(path.read_bytes()[:-100])


def of_another_network(path):
  with np.load(path) as stored:
    arrays = dict(stored) | {'q': stored['q'][1:]}
  np.savez(path, **arrays)


@pytest.mark.parametrize('damage', [cut, of_another_network])
def test_a_damaged_archive_is_named_and_left_out(whole, workdir, damage):
  first, second = sorted((workdir / 'symbols').iterdir())
  damage(first)
  before = whole[1].split('\n')
  after = codec_report.compare_codecs(workdir).split('\n')
  assert after[:5] == [*before[:4], before[5]]  # all but the first round
  assert after[5:8] == ['', '1 damaged archives left out:', '']
  assert f'symbols/{first.name}: ' in after[8].replace('\\', '')
  assert after[8].endswith('delete it.')
  head, *rows = whole[2].splitlines()
  rows = [row for row in rows if row.startswith('1,')]
  assert (workdir / 'bits.csv').read_text('utf-8').splitlines() == [head, *rows]
  assert (workdir / 'bits.png').read_bytes().startswith(b'\x89PNG')
  damage(second)
  with pytest.raises(reading.FileError, match=rf'{first.name}: .*delete it'):
    codec_report.compare_codecs(workdir)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'it is no JSON'),
    (b'\xff', 'it is no UTF-8 text'),
    (b'[1]', r'it must be an object, got \[1\]'),
    (b'{}', 'configured for another version'),
    (b'{"model": 5, "wire": []}', 'configured for another version'),
  ],
)
def test_a_damaged_configuration_is_one_line(workdir, content, message):
  (workdir / 'config.json').write_bytes(content)
  with pytest.raises(ValueError, match=message) as caught:
    codec_report.compare_codecs(workdir)
  assert len(str(caught.value).splitlines()) == 1
  assert re.search('config', str(caught.value))


@pytest.mark.parametrize(
  ('lost', 'message'),
  [
    ('seed', r"seed: '.absent.' there, 0 here"),
    ('batch_size', r"batch_size: '.absent.' there, 32 here"),
    ('rounds', r"rounds: '.absent.' there, 30 here"),
  ],
)
def test_a_configuration_without_a_key_is_no_other_run(workdir, lost, message):
  path = workdir / 'config.json'
  config = json.loads(path.read_text(encoding='utf-8'))
  del config[lost]
  path.write_text(json.dumps(config), encoding='utf-8')
  with pytest.raises(reading.FileError, match=rf'config\.json: .*{message}'):
    codec_report.compare_codecs(workdir)


def test_a_mistake_in_a_files_parts_is_one_line(workdir, tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
    'import fedpm_jax as fp\n'
    'def get_config():\n'
    '  return fp.config()\n'
    'def get_parts(config):\n'
    '  return {"model": undefined}\n'
  )
  with pytest.raises(SystemExit, match=r'mine\.py, line 5: NameError'):
    report.main([f'--bits={workdir}', f'--config={path}'])
