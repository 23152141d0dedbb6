"""Whatever a name holds, it stays in its cell, its legend and its line."""

import csv
import io
import os
import re

import fake_runs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import cbook
from matplotlib.text import Text

from fedpm_jax import report
from fedpm_jax.reports import compare, plots, style, tables
from fedpm_jax.system.text import printable

NAMES = [
  'größe, ∑ 大小 😀 שלום',
  'a|b',
  '`a` ``b``',
  '<b>bold &lt;',
  '**a** _b_ ~~c~~ [d](e)',
  '$x^2$ \\$ $',
  r'$\frac{$ \$y$',
  '_hidden',
  '=1+2, "q"',
  'a\nb\r\t',
  '\x1b[31mred\x07',
  os.fsdecode(b'run\xff'),
  'left\u202eright',
  'x' * 200,
  '\\',
  ' ',
]


@pytest.fixture
def figures(monkeypatch):
  """The figures that are drawn; their pictures are written as well."""
  drawn, save = [], style.save

  def keep(figure, path):
    save(figure, path)
    drawn.append(figure)

  monkeypatch.setattr(style, 'save', keep)
  return drawn


def texts(figure):
  return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_labels_of_any_name_have_tables_and_pictures(tmp_path, name, figures):
  for method in (name, 'fedpm'):
    labels = {'data': name, 'method': method, 'split': name, 'seed': '0'}
    folder = fake_runs.write(
      tmp_path, labels, [0.5, 0.6], uplink=[9, 9], downlink=[9, 9]
    )
  (folder / 'error.txt').write_text(f'{name!r} | $x$\nmore', encoding='utf-8')
  text = compare.compare_runs(tmp_path, tmp_path / 'out', targets={name: 0.1})
  text.encode()
  assert all(line.isprintable() for line in text.split('\n'))
  # One table of two rows, every line of as many cells.
  rows = [row for row in text.split('\n') if row.startswith('| ')]
  assert len(rows) == 4
  cells = [re.split(r'(?<!\\)(?:\\\\)*\|', row) for row in rows]
  assert len({len(row) for row in cells}) == 1
  with open(tmp_path / 'out/comparison.csv', encoding='utf-8') as file:
    (row,) = (r for r in csv.DictReader(file) if r['method'] != 'fedpm')
  assert row['data'] == row['method'] == row['split'] == printable(name)
  pictures = [p for p in text.split('\n') if p.endswith(('.png', '.pdf'))]
  assert len(pictures) == len(figures) == 12
  for path in pictures:
    assert re.fullmatch(
      r'[\w.+-]{1,100}\.p(ng|df)', os.path.basename(path), re.A
    )
    assert os.path.dirname(path) == str(tmp_path / 'out')
  for figure in figures:
    assert texts(figure).count(style.shown(name)) == 2  # data and method
    formulas = filter(cbook.is_math_text, texts(figure))
    assert all(text.startswith(r'$\mathdefault{') for text in formulas)


def test_data_sets_whose_files_would_have_the_same_name(tmp_path):
  for name in ('a|b', 'a?b', 'a_b', 'a_b_1'):
    labels = {'data': name, 'method': 'fedpm', 'seed': '0'}
    fake_runs.write(tmp_path, labels, [0.5], uplink=[9], downlink=[9])
  compare.compare_runs(tmp_path, tmp_path / 'out', targets={})
  assert len(list((tmp_path / 'out').glob('*_density.png'))) == 4


@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_pictures_of_a_run_of_any_name(tmp_path, name, figures):
  rows = [
    fake_runs.row(t, 0.5, 9, 9) | {f'eval/accuracy_{name}': 0.25}
    for t in range(2)
  ]
  plots.curves(rows, tmp_path / 'curves.png', title=name)
  plots.partition(np.ones((2, 3)), tmp_path / 'partition.png', title=name)
  costs = [
    {
      'round_idx': 0,
      'direction': 'uplink',
      'codec': codec,
      'real': 1.0,
      'ideal': 0.5,
      f'ideal/{name}': 0.5,
      'ideal/dense': 0.75,
    }
    for codec in plots.codec_costs.UPLINK + plots.codec_costs.DOWNLINK
  ]
  plots.costs(costs, tmp_path / 'bits.png', title=name)
  for figure in figures:
    assert style.shown(name, most=style.MAX_TITLE) in texts(figure)
  curves, _, bits = figures
  assert style.shown(name) in texts(curves.axes[0])
  ticks = [tick.get_text() for tick in bits.axes[2].get_xticklabels()]
  assert ticks == [style.shown(name), 'dense']


def test_curves_have_a_line_for_each_network_and_no_other(tmp_path, figures):
  """Votes and means of masks lie on the lines of single masks."""
  more = ('sampled_mean', 'sampled_std', 'vote', 'ensemble')
  rows = [
    fake_runs.row(t, 0.5, 9, 9)
    | {f'eval/accuracy_{name}': 0.25 for name in more}
    | {'eval/client_accuracy_mean': 0.25}
    for t in range(2)
  ]
  plots.curves(rows, tmp_path / 'curves.png')
  names = [text.get_text() for text in figures[0].axes[0].texts]
  assert names == ['mean', 'sampled', 'threshold']
  assert len(figures[0].axes[0].lines) == 3


def test_a_terminal_that_does_not_know_a_letter(tmp_path, monkeypatch):
  labels = {'data': 'größe', 'method': 'fedpm', 'seed': '0'}
  fake_runs.write(tmp_path, labels, [0.5], uplink=[9], downlink=[9])
  shown = io.BytesIO()
  terminal = io.TextIOWrapper(shown, encoding='ascii', write_through=True)
  monkeypatch.setattr('sys.stdout', terminal)
  report.main([f'--sweep={tmp_path}'])
  assert rb'## gr\xf6\xdfe' in shown.getvalue()
  written = (tmp_path / 'comparison.md').read_text(encoding='utf-8')
  assert '## größe' in written


any_text = st.text(st.characters())


@given(any_text)
def test_a_cell_of_markdown_is_its_text_and_nothing_else(text):
  cell = tables.escaped(text)
  assert cell.isprintable()
  assert re.sub(r'\\([^A-Za-z0-9 ])', r'\1', cell) == printable(text)
  bare = re.sub(r'\\[^A-Za-z0-9 ]', '', cell)
  assert not set(bare) & set('|<>`*[]$#&~')


@given(any_text)
def test_code_ends_where_its_text_ends(text):
  shown = tables.code(text)
  fence = re.match('`+', shown)[0]
  inside = shown[len(fence) : -len(fence)]
  assert fence not in re.findall('`+', inside)
  assert inside.removeprefix(' ').removesuffix(' ').strip() == (
    printable(text).strip()
  )


@given(st.lists(st.dictionaries(any_text, any_text, min_size=1), min_size=1))
def test_csv_gives_back_what_prints(rows):
  read = csv.DictReader(io.StringIO(tables.to_csv(rows).decode(), newline=''))
  for row, found in zip(rows, read, strict=True):
    for name, value in row.items():
      if sum(printable(n) == printable(name) for r in rows for n in r) == 1:
        assert found[printable(name)] == printable(value)
