"""README and docs: their links, their commands, the tables that can be checked."""

import re
import shlex

import pytest
from whole_runs import ROOT

from fedpm_jax import cli
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import config_files
from fedpm_jax.models import network as networks
from fedpm_jax.train import FLAGS

README = (ROOT / 'README.md').read_text()
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
EACH_PAGE = pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)


def table(first_cell):
  """The cells of README's table whose head begins with this cell."""
  lines = README.split(f'| {first_cell} |', 1)[1].splitlines()[2:]
  for line in lines:
    if not line.startswith('|'):
      return
    yield [cell.strip().strip('`') for cell in line.strip('|').split('|')]


def heading_ids(text):
  """The anchors that GitHub gives to a page's headings."""
  for title in re.findall(r'^#+ (.*)$', text, re.M):
    words = re.sub(r'[^\w\- ]', '', title.lower())
    yield words.replace(' ', '-')


def without_output(page):
  """Its text without the blocks that show what a program prints."""
  return re.sub(r'^```text\n.*?^```$', '', page.read_text(), flags=re.M | re.S)


def test_the_readme_is_short_enough_to_be_read():
  assert len(README.splitlines()) <= 220


@EACH_PAGE
def test_every_link_leads_somewhere(page):
  for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
    if target.startswith('http'):
      continue
    name, _, anchor = target.partition('#')
    path = page.parent / name if name else page
    assert path.exists(), target
    if anchor:
      assert anchor in heading_ids(path.read_text()), target


@EACH_PAGE
def test_every_page_is_narrow(page):
  """But for tables and addresses, which no break may cut."""
  widest = 110 if page.name == 'README.md' and page.parent == ROOT else 100
  for line in without_output(page).splitlines():
    seen = re.sub(r'\]\([^)]*\)', ']', line)
    whole = line.startswith(('|', 'url:')) or 'https://' in seen
    assert whole or len(seen) <= widest, line


@EACH_PAGE
def test_every_flag_of_a_command_is_one(page):
  """Of `fedpm train`: a configuration's name, keys with values."""
  text = without_output(page).replace('\\\n', ' ')
  commands = re.findall(r'(?:fedpm|fedpm_jax\.)\s*train\b([^\n`|#]*)', text)
  for command in commands:
    words = [w for w in shlex.split(command) if w.startswith('--')]
    words = [w.replace('=N', '=0').replace('=W', '=0') for w in words]
    cli.configuration(cli.parse(words, FLAGS, None))


@pytest.mark.parametrize('name', ['digits', 'cifar10'])
def test_the_table_of_hyperparameters_is_the_configuration(name):
  config = config_files.read(name).config
  column = {'digits': 1, 'cifar10': 2}[name]
  rows = list(table('key'))
  assert len(rows) > 10
  for row in rows:
    assert str(configs.get(config, row[0])) == row[column], row[0]


@pytest.mark.parametrize('name', ['digits', 'mnist', 'emnist', 'cifar10'])
def test_the_table_of_data_is_the_configuration(name):
  config = config_files.read(name).config
  rows = {row[0]: row[1:] for row in table('`--config=` | clients')}
  clients, cohort, split, _ = rows[name]
  assert int(clients) == config.num_clients
  assert int(cohort) == config.clients_per_round
  assert split == config.data.partition


IMAGES = {
  '`conv4`, digits': ((8, 8, 1), 10),
  '`conv4`, MNIST': ((28, 28, 1), 10),
  '`conv4`, EMNIST': ((28, 28, 1), 47),
  '`conv6`, CIFAR-10': ((32, 32, 3), 10),
  '`conv10`, CIFAR-100': ((32, 32, 3), 100),
}


def test_the_table_of_models_is_right():
  rows = re.findall(
    r'^\| (`conv\d+`, [\w-]+) \| (\d+) conv, (\d+) dense \| (\S+) \|'
    r' ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$',
    README,
    re.M,
  )
  assert [row[0] for row in rows] == list(IMAGES)
  for name, convolutions, dense, image, *numbers in rows:
    shape, classes = IMAGES[name]
    layout = networks.build(
      networks.Spec(
        model=re.match('`(.*)`', name)[1],
        image_shape=shape,
        num_classes=classes,
        seed=0,
        weight_kind='normal',
        weight_gain=1.0,
      )
    ).layout
    kernels = [n for n in layout.names if n.endswith('kernel')]
    assert sum('conv' in n for n in kernels) == int(convolutions)
    assert sum('dense' in n for n in kernels) == int(dense)
    assert image == 'x'.join(map(str, shape))
    d = layout.num_parameters
    found = [int(number.replace(',', '')) for number in numbers]
    assert found == [d, 4 * d, -(-d // 8)]
