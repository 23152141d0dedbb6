"""Every command of README and docs/ is run here, at a tiny size, or listed.

`fedpm` gets the words of the page through the parser that users have, and then
fewer rounds, clients and examples.  A command of another kind is a row of
`commands.BY_HAND`, or this fails.
"""

import argparse
import glob
import importlib
import pathlib
import re
import runpy
import shlex
import shutil
import sys
import tomllib

import commands
import pages
import pytest

import fedpm_jax as fp
from fedpm_jax import cli, compressors
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import sweeps
from fedpm_jax.federation import settings
from fedpm_jax.reports import comparison_plots, style

COMMANDS = commands.every()
RUN = [line for line in COMMANDS if commands.reason(line) is None]
LISTED = [line for line in COMMANDS if commands.reason(line)]
FEDPM = re.compile(
  r'(?:fedpm|python -m fedpm_jax\.) ?(train|sweep|report)\b(.*)'
)
# What the pages write for a number of the reader's.
PLACES = {'=N': '=3', '=W': '=0.012'}
TINY = {
  'rounds': 1,
  'num_clients': 3,
  'clients_per_round': 2,
  'local_epochs': 1,
  'batch_size': 8,
  'model': 'lenet',
  'data.name': 'digits',
  'data.max_examples': 8,
}
# What changes numbers, and not the program that XLA has to compile.
ALIKE = {
  'seed': 0,
  'optimizer.learning_rate': 0.1,
  'adam.b1': 0.9,
  'adam.eps': 1e-8,
  'weights.gain': 1.4,
  'data.partition': 'iid',
  'data.sizes': 'equal',
  'data.classes_per_client': 2,
  'evaluation.every': 1,
}
# The rows of the configurations that have been run.
DONE = {}


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
  """A folder with the run that commands of the pages begin with."""
  folder = tmp_path_factory.mktemp('workplace')
  _tiny_run(folder / 'runs/digits')
  return folder


def _tiny_run(workdir, **changes):
  keys = TINY | ALIKE | changes
  flags = [f'--config.{key}={value}' for key, value in keys.items()]
  program = importlib.import_module('fedpm_jax.train')
  program.main([*flags, f'--workdir={workdir}'])


@pytest.fixture(autouse=True)
def here(workplace, monkeypatch):
  """In that folder, and without pictures: they take most of the time.

  tests/reports has them, and the run above draws its own.
  """
  monkeypatch.chdir(workplace)
  monkeypatch.setattr(style, 'rendered', lambda drawn, kind: b'')
  monkeypatch.setattr(style, 'to_svg', lambda drawn, prefix: '<svg></svg>')


def test_every_command_is_run_or_listed():
  programs = ('fedpm ', 'python -m fedpm_jax.', 'python benchmarks/')
  unknown = [line for line in RUN if not line.startswith(programs)]
  assert not unknown, 'run them here, or list them in commands.BY_HAND'
  assert len(RUN) > 20


def test_no_listed_command_is_gone():
  for start in commands.BY_HAND:
    assert any(line.startswith(start) for line in COMMANDS), start


@pytest.mark.parametrize('line', [c for c in RUN if FEDPM.match(c)])
def test_a_command_of_fedpm(line, monkeypatch):
  program, rest = FEDPM.match(line).groups()
  words = shlex.split(rest)
  for place, value in PLACES.items():
    words = [re.sub(f'{place}$', value, word) for word in words]
  {'train': _train, 'sweep': _sweep, 'report': _report}[program](
    words, monkeypatch
  )


def _train(words, monkeypatch):
  if '--list' in words:
    importlib.import_module('fedpm_jax.train').main(words)
    return
  # docs/methods.md says how to add it.
  monkeypatch.setitem(compressors.COMPRESSORS, 'binary', _binary())
  flags = cli.Flags(config='digits', workdir='', list=False)
  config = cli.configuration(cli.parse(words, flags, None)).config
  configs.validate(config)
  config.update_from_flattened_dict(TINY)
  fp.Experiment(config)  # It checks everything.
  config.update_from_flattened_dict(ALIKE)
  described = str(configs.to_dict(config))
  if described not in DONE:
    (DONE[described],) = fp.Experiment(config).rounds()
  assert 0 < DONE[described]['uplink/bpp_wire'] < 33
  assert DONE[described]['eval/accuracy_mean'] >= 0


def _binary():
  text = (pages.DOCS / 'methods.md').read_text()
  names = {}
  exec(re.search(r'```python\n("""Stochastic.*?)```', text, re.S)[1], names)
  return names['binary']


def _sweep(words, monkeypatch):
  read = sweeps.read
  only = [word for word in words if word.startswith('--only=method=')]
  named = {'fedpm', *','.join(only).removeprefix('--only=method=').split(',')}

  def tiny(path):
    """The first run of each data set and method, of one split, at a tiny size.

    Of methods that are not asked for, the very first run.
    """
    runs, split = {}, None
    for run in read(path):
      run.config.update_from_flattened_dict(TINY | ALIKE)
      split = split or run.labels.get('split')
      if run.labels.get('split') == split:
        runs.setdefault((run.labels['data'], run.labels['method']), run)
    asked = [run for (_, method), run in runs.items() if method in named]
    return asked or list(runs.values())[:1]

  monkeypatch.setattr(sweeps, 'read', tiny)
  words = [re.sub(r'^--jobs=\d+$', '--jobs=0', word) for word in words]
  try:
    importlib.import_module('fedpm_jax.sweep').main([*words, '--jobs=0'])
  except SystemExit as stopped:
    if stopped.code:
      raise


def _report(words, monkeypatch):
  for word in words:
    found = re.match(r'--sweep=runs/(\w+)$', word)
    if found and not pathlib.Path(f'runs/{found[1]}').exists():
      # The pages say which sweep comes before.
      _sweep([f'--config={found[1]}'], monkeypatch)
  # As a shell does it.
  words = [path for word in words for path in sorted(glob.glob(word)) or [word]]
  for seed, word in enumerate(words, start=1):  # No two runs are the same.
    if word.startswith('runs/') and not pathlib.Path(word).exists():
      _tiny_run(word, seed=seed)
  monkeypatch.setattr(comparison_plots, 'draw', lambda groups, out: [])
  importlib.import_module('fedpm_jax.report').main(words)


@pytest.mark.parametrize(
  'line', [c for c in COMMANDS if c.startswith('python benchmarks/')]
)
def test_a_command_of_a_benchmark(line, monkeypatch, workplace):
  """Its flags are flags of the program, and the program runs if it can here."""
  _, name, *words = shlex.split(line)
  is_run = commands.reason(line) is None
  small = {'codecs': ['--parameters=2000', '--repeats=1']}
  stem = name.removeprefix('benchmarks/').removesuffix('.py')
  parse = argparse.ArgumentParser.parse_args

  def only_parse(parser, *arguments):
    raise Parsed(parse(parser, *arguments))

  if is_run:
    folder = workplace / 'results'
    shutil.copytree(
      pages.ROOT / 'results/lowering', folder / 'lowering', dirs_exist_ok=True
    )
  else:
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', only_parse)
  monkeypatch.setattr(sys, 'argv', [name, *words, *small.get(stem, [])])
  monkeypatch.syspath_prepend(pages.ROOT / 'benchmarks')
  try:
    runpy.run_path(str(pages.ROOT / name), run_name='__main__')
    assert is_run
  except Parsed:
    assert not is_run


class Parsed(Exception):
  """The words of a command were understood."""


@pytest.mark.parametrize(
  'line', [c for c in LISTED if c.startswith('flwr run')]
)
def test_the_run_config_of_flower_is_understood(line):
  words = shlex.split(line)
  if '--run-config' not in words:
    return
  text = words[words.index('--run-config') + 1]
  # Keys of one line, apart by spaces: each is a line of TOML.
  lines = re.sub(r'(" )(?=[\w-]+=)', '"\n', text)
  read = settings.read(tomllib.loads(lines.replace('$flags', '')))
  assert read.config.rounds


@pytest.mark.parametrize('page', pages.PAGES, ids=lambda p: p.stem)
def test_the_python_of_a_page_runs(page, monkeypatch, rng):
  """In order, as one program, with a configuration of seconds."""
  blocks = re.findall(r'^```python\n(.*?)^```$', page.read_text(), re.M | re.S)
  config = fp.config()
  config.update_from_flattened_dict(TINY | ALIKE)
  monkeypatch.setattr(fp, 'config', lambda *_: config, raising=False)
  names = {'images': rng.integers(0, 256, [2, 8, 8, 1], 'uint8')}
  for block in blocks:
    block = re.sub(r'rounds = \d+', 'rounds = 1', block)
    exec(compile(block, page.name, 'exec'), names)
