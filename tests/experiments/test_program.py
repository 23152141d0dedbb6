"""The programs: flags, and errors of one line."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from whole_runs import ROOT, command, small

import fedpm_jax as fp
from fedpm_jax import cli
from fedpm_jax.experiments import codec_report
from fedpm_jax.experiments import config as configs
from fedpm_jax.reports import records


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (
      ['--config.num_clients=2000', '--config.data.max_examples=0'],
      'error: .*1437.*2000',
    ),
    (['--config.no_such_key=1'], "config has no key 'no_such_key'"),
    (['--config.fedpm.lamda_0=1'], 'did you mean config.fedpm.lambda_0'),
    (['--config.lambda_0=1'], 'did you mean config.fedpm.lambda_0'),
    (['--config.sgd.momentum=0.9'], 'sgd, which this run does not use'),
    (['--config.data.partition=dirchlet'], "mean 'dirichlet'"),
    (['--confg=digits'], 'no flag --confg: did you mean --config'),
    (['--num_hosts=2'], 'Hosts need --coordinator=ADDRESS:PORT --num_hosts=N'),
    (
      ['--confg.rounds=3'],
      'no flag --confg.rounds: did you mean --config.rounds?',
    ),
    (['--round=3'], 'no flag --round: did you mean --config.rounds?'),
    (['--config=methods:fedmnr'], "got 'fedmnr'. Did you mean 'fedmrn'?"),
    (['--workdir'], '--workdir needs a value'),
    (['--config.rounds'], "expected an integer, got 'true'"),
    (['--config.rounds=none'], "expected an integer, got 'none'"),
    (['--config.rounds=many'], "config.rounds: expected an integer, got 'm"),
    (None, 'absent.py'),
    (['stray'], 'Unexpected arguments.*stray'),
    (
      ['--config.data.name=mnist', '--config.data.dir=nowhere'],
      'error: .*nowhere',
    ),
  ],
)
def test_a_users_mistake_is_one_clear_line(tmp_path, flags, message):
  if flags is None:
    arguments = [*command(tmp_path / 'run')[:4], '--config=absent.py']
  else:
    arguments = command(tmp_path / 'run', *flags)
  run = subprocess.run(
    arguments,
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {'HOME': str(tmp_path)},
  )
  assert run.returncode != 0
  assert len(run.stderr.splitlines()) == 1, run.stderr
  assert re.search(message, run.stderr, re.S), run.stderr
  assert not (tmp_path / 'run').exists()


def test_the_order_of_flags_does_not_matter():
  flags = cli.Flags(config='digits', workdir='')
  words = [
    ['--config.model=cnn'],
    ['--config', 'methods:qsgd'],
    ['--config.qsgd.levels', '3'],
    ['--config.fedavg_grid.server_learning_rate=0.5'],
  ]
  configured = []
  for order in (words, words[::-1], words[2:] + words[:2]):
    argv = [word for pair in order for word in pair]
    arguments = cli.parse(argv, flags, '')
    configured.append(configs.to_dict(cli.configuration(arguments).config))
  assert configured[0] == configured[1] == configured[2]
  assert configured[0]['model'] == 'cnn'
  assert configured[0]['qsgd'] == {'levels': 3, 'bucket': 512}
  assert configured[0]['fedavg_grid'] == {
    'server_learning_rate': 0.5,
    'step': 0.01,
  }


def test_list_shows_every_key_with_its_meaning(capsys):
  cli_train = [sys.executable, '-m', 'fedpm_jax.train', '--list']
  cli_train += ['--config.rounds=77']
  shown = subprocess.run(
    cli_train, cwd=ROOT, capture_output=True, text=True, check=True
  ).stdout
  for path, option in configs.every_key().items():
    (line,) = re.findall(rf'^--config\.{re.escape(path)} .*$', shown, re.M)
    assert option.kind.__name__ in line
    assert option.meaning, path
    assert line.endswith(option.meaning)
  assert re.search(r'rounds +int +77 ', shown)
  assert re.search(r'adam\.b1 +float +0\.3 ', shown)  # of digits.py


def test_the_program_is_the_function_too():
  """Importing the program must not take `fp.train` away."""
  import fedpm_jax.train as program

  assert fp.train is program or fp.train.__name__ == 'train'
  with pytest.raises(ValueError, match=r'config\.rounds must be at least 1'):
    program(small(rounds=0), 'nowhere')
  with pytest.raises(ValueError, match=r'config\.rounds must be at least 1'):
    fp.train(small(rounds=0), 'nowhere')


def test_report_compares_codecs_on_the_masks_of_a_run(whole, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(whole[0], workdir)
  table = codec_report.compare_codecs(workdir)
  rows = (workdir / 'bits.csv').read_text().splitlines()
  assert rows[0].startswith('round_idx,direction,codec,real,ideal')
  assert len(rows) == 1 + 8  # one round was kept, the last
  real = {line.split(',')[2]: float(line.split(',')[3]) for line in rows[1:]}
  last = records.read_rows(workdir / 'metrics.jsonl')[-1]
  assert real['dither'] == last['uplink/bpp_wire']
  assert f'{real["prior"]:.4f}' in table
  assert (workdir / 'bits.png').read_bytes().startswith(b'\x89PNG')


def test_report_of_a_folder_without_masks_is_one_line(tmp_path):
  result = subprocess.run(
    [sys.executable, '-m', 'fedpm_jax.report', f'--bits={tmp_path}'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 1
  assert result.stderr.startswith(f'error: {tmp_path} keeps no symbols')
  assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
  ('flags', 'name'),
  [
    ([], 'digits'),
    (['seed=0'], 'digits'),  # as the file has it
    (['seed=2'], 'digits,seed=2'),
    (['seed=1', 'seed=2'], 'digits,seed=2'),
    (['fedpm.lambda_0=2', 'seed=2'], 'digits,seed=2,fedpm.lambda_0=2.0'),
    (['rounds=99', 'evaluation.every=7', 'data.dir=/a/b'], 'digits'),
    (
      ['optimizer.schedule=cosine', 'rounds=9'],
      'digits,rounds=9,optimizer.schedule=cosine',
    ),
  ],
)
def test_a_run_without_a_folder_gets_one_that_says_what_it_changes(flags, name):
  assert _loaded(flags).name == name


@pytest.mark.parametrize(
  ('config', 'name'),
  [
    ('methods:drive', 'methods_drive'),
    ('cifar10:official', 'cifar10_official'),
  ],
)
def test_the_argument_of_a_configuration_is_in_the_name(config, name):
  assert _loaded([], config).name == name


def test_a_name_is_fit_for_a_folder_and_tells_apart():
  names = [
    _loaded([f'data.name={data}']).name
    for data in ('a/b:1.0.0', 'a_b:1.0.0', 'x' * 300, 'x' * 299, '../../etc')
  ]
  assert len({*names}) == 5
  for name in names:
    assert re.fullmatch(r'digits,[\w.,=+-]{1,150}', name)


def _loaded(flags, config='digits'):
  words = [f'--config.{flag}' for flag in flags]
  flags = cli.Flags(config=config, workdir='')
  return cli.configuration(cli.parse(words, flags, ''))


@pytest.mark.parametrize(
  ('error', 'line'),
  [
    (ValueError('two\nlines, \x1b[31m red'), r'two\nlines, \x1b[31m red'),
    (OSError(28, 'No space left', '/a/b'), '/a/b: No space left.'),
    (OSError('could not be written'), 'could not be written'),
    (MemoryError('Unable to allocate'), 'There is not enough memory.'),
    (RuntimeError('RESOURCE_EXHAUSTED: Out of'), 'There is not enough memory.'),
  ],
)
def test_what_a_user_can_cause_is_one_line(error, line):
  def program():
    raise error

  with pytest.raises(SystemExit) as caught:
    cli.guarded(program)
  message = str(caught.value.code)
  assert message.startswith(f'error: {line}')
  assert message.isprintable()


def test_a_bug_keeps_its_traceback():
  def program():
    raise RuntimeError('a bug')

  with pytest.raises(RuntimeError, match='a bug'):
    cli.guarded(program)


def test_who_reads_no_further_gets_no_traceback():
  process = subprocess.Popen(
    [sys.executable, '-m', 'fedpm_jax.train', '--list'],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  process.stdout.close()
  assert process.stderr.read() == b''
  process.stderr.close()
  assert process.wait() == 128 + signal.SIGPIPE


def test_a_process_without_input_and_output_runs_to_its_end(tmp_path):
  """Its files are not mistaken for a terminal."""
  start = ['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh']
  arguments = command(tmp_path / 'run', rounds=1)
  run = subprocess.run([*start, *arguments], cwd=ROOT)
  assert run.returncode == 0
  assert len(records.read_rows(tmp_path / 'run' / 'metrics.jsonl')) == 1
  assert (tmp_path / 'run' / 'summary.json').exists()
