"""The notebooks run, show what they should, and their outputs are up to date.

Where a test says that outputs are stale: `python tests/notebooks/executed.py`
makes them anew.
"""

import json
import os
import pathlib
import re
import socket
import tomllib
from typing import NamedTuple

import executed
import numpy as np
import pytest
from IPython.core import inputtransformer2
from packaging import requirements

ROOT = executed.ROOT
SITE = 'https://github.com/fedpm-jax/fedpm_jax'
MOST_BYTES = 500_000


class Case(NamedTuple):
  """What a notebook must show.

  Attributes:
    figures: how many.
    says: what stands in its text.
    numbers: what stands before a number in the text, a regular expression ->
      the least and the most that the number may be.
  """

  figures: int
  says: tuple[str, ...]
  numbers: dict[str, tuple[float, float]]


CASES = {
  'fedpm_quickstart': Case(
    7,
    ('10 clients, 143 or 144 images each',),
    {
      'sampled network: test accuracy ': (0.95, 1),
      'mean network: test accuracy ': (0.95, 1),
      'test accuracy of the loaded model: ': (0.94, 1),
      'by the estimate\nlast round: ': (0.05, 0.09),
      'parameters\n': (32, 35),  # times smaller
      'FedPM: .*\n .* until 0.95, ': (2, 3),  # MB
      'FedAvg: ': (0.97, 1),
    },
  ),
  'bits_of_a_mask': Case(
    8,
    (
      'the same bits: True',
      'damaged: WireError',
      'other theta: WireError',
      'its mask is the one above: True',
    ),
    {
      'the whole message: .* B, ': (0.07, 0.09),
      '\nfrequency +': (0.99, 1),
      '\nprior +0\\S+ +': (0.4, 0.45),
      '\ndither +0\\S+ +': (0.07, 0.09),
      '\nrelative entropy: ': (0.004, 0.012),
      r'\(dithers\): ': (0.98, 1.02),
      'relative entropy coding: ': (0.7, 0.95),
      'theta_raw +': (16, 16.01),
      'theta_news +': (0.5, 0.75),
    },
  ),
  'own_method': Case(
    3,
    ('by hand 1,930 B, measured 1,930 B',),
    {
      '(?=.*within four)': (99, 100),  # percent
      '\nfedpm +': (0.95, 1),
      '\nfedmrn +': (0.96, 1),
      '\nfew_bits +': (0.95, 1),
      '\nfew_bits +0\\S+ +': (0.1, 0.105),  # bits per parameter up
    },
  ),
  'own_data_and_model': Case(
    6,
    (
      'Conv_0/bias               16  masked',
      'GroupNorm_0/scale         16  frozen at 1',
      'Expected float32 inputs [B, 12, 12, 1], got uint8',
    ),
    {
      'round 10: test accuracy ': (0.95, 1),
      'bytes, ': (29, 31),  # times smaller
      'than float32\ntest accuracy: ': (0.9, 1),
      'test accuracy: (?=.*\nmetrics)': (0.85, 1),
    },
  ),
}
EACH = pytest.mark.parametrize('name', CASES)

# What a notebook leaves behind in a kernel of its user.
PROBE = """
import json
import jax
import matplotlib
from matplotlib import pyplot
print(json.dumps({
  'backend': matplotlib.get_backend(),
  'changed': [
    name
    for name, value in matplotlib.rcParamsOrig.items()
    if name not in ('backend', 'interactive')  # IPython's own
    and matplotlib.rcParams[name] != value
  ],
  'open': pyplot.get_fignums(),
  'platforms': jax.config.jax_platforms,
}))
"""


def code_cells(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def text(cell):
  """All that a cell has printed, or shown in words."""
  return ''.join(
    output.text
    if output.output_type == 'stream'
    else output.data.get('text/plain', '')
    for output in cell.outputs
  )


def count_figures(notebook):
  return sum(
    'image/png' in output.get('data', {})
    for cell in code_cells(notebook)
    for output in cell.outputs
  )


def without_numbers(cell):
  kinds = [output.output_type for output in cell.outputs]
  return kinds, re.sub(r' *\d[\d,.]*', '#', text(cell)).split()


def numbers(cell):
  found = re.findall(r'\d[\d,]*(?:\.\d+)?', text(cell))
  return np.array([float(number.replace(',', '')) for number in found])


def check_text(notebook, case):
  everything = '\n'.join(map(text, code_cells(notebook)))
  for words in case.says:
    assert words in everything, words
  for before, (least, most) in case.numbers.items():
    found = re.search(rf'{before}(\d[\d,.]*)', everything)
    assert found, before
    assert least <= float(found[1].replace(',', '')) <= most, found[0]


def test_each_notebook_is_tested():
  assert {path.stem for path in executed.NOTEBOOKS} == set(CASES)


@EACH
def test_a_notebook_runs_and_its_outputs_are_up_to_date(name, tmp_path):
  committed = executed.read(ROOT / 'notebooks' / f'{name}.ipynb')
  probed = executed.with_cell(committed, PROBE)
  done = executed.execute(probed, tmp_path)
  left = json.loads(text(done.cells.pop()))
  assert 'inline' in left['backend']
  assert (left['changed'], left['open']) == ([], [])
  assert left['platforms'] == (os.environ.get('JAX_PLATFORMS') or None)

  for cell in code_cells(done):
    streams = [o for o in cell.outputs if o.output_type == 'stream']
    assert all(o.name == 'stdout' for o in streams), text(cell)
  for notebook in (committed, done):
    assert count_figures(notebook) == CASES[name].figures
    check_text(notebook, CASES[name])
  for old, new in zip(code_cells(committed), code_cells(done), strict=True):
    assert without_numbers(old) == without_numbers(new), 'outputs are stale'
    # Another processor rounds in another way, and training amplifies it.
    np.testing.assert_allclose(numbers(old), numbers(new), rtol=0.2, atol=0.1)


@EACH
def test_what_is_committed_is_whole_and_tells_nothing_of_a_machine(name):
  path = ROOT / 'notebooks' / f'{name}.ipynb'
  assert path.stat().st_size < MOST_BYTES
  notebook = executed.read(path)
  cells = code_cells(notebook)
  counts = [cell.execution_count for cell in cells]
  assert counts == list(range(1, len(cells) + 1))
  assert all(cell.source.strip() for cell in notebook.cells)
  assert not any(cell.metadata for cell in notebook.cells)
  assert set(notebook.metadata) == {'kernelspec', 'language_info'}
  said = '\n'.join(map(text, cells))
  names = {socket.gethostname(), pathlib.Path.home().name} - {''}
  for word in (*names, 'tmp', 'home', 'Users', 'site-packages', 'object at'):
    assert not re.search(rf'\b{re.escape(word)}\b', said), word


@EACH
def test_a_notebook_opens_in_colab_and_leaves_jax_and_matplotlib_alone(name):
  notebook = executed.read(ROOT / 'notebooks' / f'{name}.ipynb')
  address = f'{SITE.replace("github.com", "colab.research.google.com/github")}'
  badge = f'({address}/blob/main/notebooks/{name}.ipynb)'
  assert badge in notebook.cells[0].source.split('\n')[2]
  source = '\n'.join(cell.source for cell in code_cells(notebook))
  for word in ('jax_platform', 'JAX_PLATFORM', '%matplotlib', '.use('):
    assert word not in source


@EACH
def test_every_link_of_a_notebook_leads_somewhere(name):
  notebook = executed.read(ROOT / 'notebooks' / f'{name}.ipynb')
  written = '\n'.join(cell.source for cell in notebook.cells)
  for target in re.findall(r'\]\(([^)\s]+)\)', written):
    inside = re.fullmatch(rf'{SITE}/(?:blob|tree)/main/(.*)', target)
    if inside:
      assert (ROOT / inside[1]).exists(), target
    elif not target.startswith('https://'):
      assert (ROOT / 'notebooks' / target).exists(), target


class FakeShell:
  """Takes the place of IPython, and installs nothing."""

  def __init__(self, names):
    self.names, self.lines = names, []

  def run_line_magic(self, magic, line):
    self.lines.append(f'{magic} {line}'.format(**self.names))


@pytest.mark.parametrize(
  ('device', 'extras'),
  [
    ('', set()),
    ('/dev/nvidia0', {'cuda12'}),
    ('/dev/accel0', {'tpu'}),
    ('/dev/vfio/0', {'tpu'}),
  ],
)
@EACH
def test_the_first_cell_installs_for_the_chip(
  name, device, extras, monkeypatch
):
  """JAX of another version than its plug-in would fall back to the CPU."""
  notebook = executed.read(ROOT / 'notebooks' / f'{name}.ipynb')
  source = code_cells(notebook)[0].source
  code = inputtransformer2.TransformerManager().transform_cell(source)
  monkeypatch.setattr('importlib.util.find_spec', lambda _: None)
  monkeypatch.setattr('pathlib.Path.exists', lambda p: str(p) == device)
  names = {}
  shell = FakeShell(names)
  names['get_ipython'] = lambda: shell
  exec(code, names)
  monkeypatch.undo()
  (line,) = shell.lines
  wanted = requirements.Requirement(
    re.fullmatch("pip install -q '(.*)'", line)[1]
  )
  assert (wanted.name, wanted.url) == ('fedpm_jax', f'git+{SITE}')
  assert wanted.extras == extras
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  assert extras <= set(project['optional-dependencies'])
