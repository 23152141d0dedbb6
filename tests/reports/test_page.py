"""The page of runs, opened in a browser: it shows what the files say."""

import html
import json
import os
import re
import shutil

import numpy as np
import page_runs
import pytest
import test_names

from fedpm_jax import report
from fedpm_jax.reports import history, page, run_files, style
from fedpm_jax.system import lock
from fedpm_jax.system.text import printable

BROWSER = os.environ.get('CHROMIUM') or shutil.which('chromium')
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']


@pytest.fixture(scope='module')
def browser():
  if not BROWSER:
    pytest.skip('there is no chromium: apt-get install chromium, or $CHROMIUM')
  api = pytest.importorskip('playwright.sync_api')
  with api.sync_playwright() as playwright:
    opened = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
    yield opened
    opened.close()


def look(browser, path, width):
  """What a browser says of a page at a width, and all that it complains of."""
  tab = browser.new_page(viewport={'width': width, 'height': 800})
  complaints, asked = [], []
  tab.on('console', lambda message: complaints.append(message.text))
  tab.on('pageerror', lambda error: complaints.append(str(error)))
  tab.on('request', lambda request: asked.append(request.url))
  tab.goto(path.as_uri())
  found = tab.evaluate(
    """() => {
      const box = e => { const b = e.getBoundingClientRect();
        return [b.left, b.right, b.width, b.height]; };
      return {
        width: document.documentElement.scrollWidth,
        plots: [...document.querySelectorAll('figure.plot svg')].map(box),
        marks: [...document.querySelectorAll('figure.plot svg')].map(
          s => s.querySelectorAll('path, image').length),
        captions: [...document.querySelectorAll('figcaption')].map(
          e => e.textContent),
        ids: [...document.querySelectorAll('[id]')].map(e => e.id),
        wide: [...document.querySelectorAll('body *')].filter(
          e => !e.closest('.table') && !e.closest('svg')
            && e.getBoundingClientRect().right > innerWidth + 1).length,
        headings: [...document.querySelectorAll('h1, h2')].map(
          e => e.textContent),
        text: document.body.innerText,
        scripts: document.scripts.length + document.querySelectorAll(
          'img, iframe, object, embed, link, [onload], [onerror]').length,
        hacked: window.hacked === true || document.title === 'hacked',
      };
    }"""
  )
  tab.close()
  assert complaints == []
  assert [url for url in asked if not url.startswith('data:')] == [
    path.as_uri()
  ]
  assert found['width'] <= width
  assert found['wide'] == 0
  assert found['scripts'] == 0
  assert not found['hacked']
  assert len({*found['ids']}) == len(found['ids'])
  for (left, right, wide, high), marks in zip(
    found['plots'], found['marks'], strict=True
  ):
    assert left >= 0
    assert right <= width
    assert wide > 150
    assert high > 100
    assert marks > 3
  return found


def page_of(*folders, out=None):
  where = [f'--out={out}'] if out else []
  report.main([*map(str, folders), *where])
  return out or folders[0] / 'report.html'


@pytest.mark.parametrize('width', [1200, 400])
def test_the_page_of_a_run(browser, tmp_path, width):
  written = page_of(page_runs.write(tmp_path / 'run'))
  found = look(browser, written, width)
  assert found['headings'] == [
    'run',
    *('Curves', 'Bits', 'Clients', 'Theta'),
    *('Configuration', 'Environment', 'Commands'),
  ]
  assert found['captions'] == [
    'Accuracy by round',
    'Accuracy by all that was sent',
    'Training loss',
    'Density of the masks that were sent',
    'Bits by direction, as sent',
    'Ideal bits by tensor, round 5',
    'Accuracy by client',
    'Labels of each client',
    'conv_0, 500 parameters',
    'dense_0, 500 parameters',
  ]
  assert len(found['plots']) == 10
  for text in (
    '0.8200',  # accuracy
    '1.8400',  # bits up
    '1.5208',  # bits down
    'python -m fedpm_jax.train --config.seed=0',
    'abc123',
    'data.partition',
  ):
    assert text in found['text']
  assert written.stat().st_size < 400_000


def test_the_page_of_several_runs(browser, tmp_path, capsys):
  folders = [
    page_runs.write(tmp_path / f'a{seed}', seed=seed) for seed in (0, 1)
  ]
  folders.append(
    page_runs.write(tmp_path / 'b', changes={'wire': {'uplink': 'prior'}})
  )
  written = page_of(*folders, out=tmp_path / 'out' / 'all.html')
  said = capsys.readouterr().out
  for path in ('all.html', 'all.png', 'all.pdf'):
    assert str(tmp_path / 'out' / path) in said
    assert (tmp_path / 'out' / path).stat().st_size > 1000
  lines = [re.split('  +', line) for line in said.split('\n')]
  assert [line[:3] for line in lines[1:3]] == [
    ['uplink dither', '0, 1', '5'],
    ['uplink prior', '0', '5'],
  ]
  assert lines[1][3] == '0.8250 +- 0.0071'
  for width in (1200, 400):
    found = look(browser, written, width)
    assert found['headings'][0] == '2 settings, 3 runs'
  text = written.read_text('utf-8')
  assert 'Where a setting has several seeds, this is of one: a0, b.' in text
  assert len(re.findall('<tr class="differs">', text)) == 1
  assert re.search('<tr class="differs"><th>wire.uplink</th>', text)
  # The labels of the first seeds are the same, and drawn once.
  assert (
    found['captions'].count(
      'uplink dither; uplink prior: Labels of each client'
    )
    == 1
  )


@pytest.mark.parametrize(
  ('clients', 'classes', 'captions'),
  [
    (10, 100, ['Labels of each client']),
    (
      1437,
      10,
      [
        'Examples of a client',
        'Classes of a client',
        'Share of its commonest class',
      ],
    ),
  ],
)
def test_many_clients_and_many_classes(
  browser, tmp_path, clients, classes, captions
):
  counts = np.random.default_rng(0).integers(0, 5, (clients, classes))
  folder = page_runs.write(tmp_path / 'run', counts=counts)
  assert (folder / history.NAME).stat().st_size < 50_000
  found = look(browser, page_of(folder), 400)
  assert set(captions) < {*found['captions']}


def test_an_old_run_has_a_page_that_says_what_it_lacks(browser, tmp_path):
  folder = page_runs.write(tmp_path / 'run', with_history=False)
  (folder / 'starts.jsonl').unlink()
  found = look(browser, page_of(folder), 400)
  assert 'Accuracy by client' in found['captions']
  assert not any('Labels' in caption for caption in found['captions'])
  assert 'has no history.json' in found['text']
  assert 'there is no starts.jsonl' in found['text']


def test_dense_weights_have_no_theta(browser, tmp_path):
  found = look(
    browser, page_of(page_runs.write(tmp_path / 'run', sampled=False)), 400
  )
  assert 'Theta' not in found['headings']
  assert 'Density of the masks that were sent' not in found['captions']
  assert 'No bits by tensor' in found['text']


def test_a_run_that_goes_on_has_a_page(browser, tmp_path):
  folder = page_runs.write(tmp_path / 'run', rounds=1, finished=False)
  found = look(browser, page_of(folder), 1200)
  assert '1 of 5' in found['text']


def test_more_groups_than_a_panel_holds(browser, tmp_path):
  folders = [
    page_runs.write(
      tmp_path / f'r{i}', changes={'batch_size': i}, with_history=False
    )
    for i in range(7)
  ]
  path = tmp_path / 'all.html'
  runs = [run_files.read(folder, []) for folder in folders]
  page.write(run_files.groups(runs), path)
  found = look(browser, path, 1200)
  assert found['captions'].count('Accuracy by round') == 2
  assert 'first 6 settings only' in found['text']


HOSTILE = [
  *test_names.NAMES,
  '</title><script>document.title="hacked"</script>',
  '<img src=x onerror="window.hacked=true">',
  '"><svg onload=window.hacked=true>',
  '--><script>window.hacked=true</script><!--',
  '<style>*{display:none}</style>',
  'url(#x) xlink:href="#y" <g id="z"',
]


def test_whatever_names_and_values_hold_is_text(browser, tmp_path):
  changes = {
    name: {'name': name, 'list': [name]} for name in map(printable, HOSTILE)
  } | {'model': HOSTILE[0], 'algorithm': HOSTILE[-6]}
  layers = tuple(printable(name).replace('/', '') for name in HOSTILE[-8:])
  starts = [
    {'date': name, 'command': name, 'rounds_done': 2, 'commit': name}
    for name in HOSTILE
  ]
  folders = []
  for i, name in enumerate((HOSTILE[-5], 'größe $x$ \x1b[31m\n')):
    folder = tmp_path / str(i) / name.replace('/', '')
    page_runs.write(folder, changes=changes | {'new': name}, tensors=layers)
    text = ''.join(json.dumps(start) + '\n' for start in starts)
    (folder / 'starts.jsonl').write_text(text)
    folders.append(folder)
  alone = page_of(folders[0])
  together = page_of(*folders, out=tmp_path / 'page.html')
  for written in (alone, together):
    found = look(browser, written, 400)
    assert found['headings'][1:] == [
      *('Curves', 'Bits', 'Clients', 'Theta'),
      *('Configuration', 'Environment', 'Commands'),
    ]
    text = written.read_text('utf-8')
    for name in HOSTILE:
      assert f'<pre>{html.escape(printable(name))}</pre>' in text
    for name in layers:
      shown = ' '.join(f'{name}, 500 parameters'.split())
      assert shown in [' '.join(c.split()) for c in found['captions']]
  assert look(browser, alone, 1200)['headings'][0] == folders[0].name


def test_the_page_is_the_same_every_time(tmp_path):
  folder = page_runs.write(tmp_path / 'run')
  first = page_of(folder).read_bytes()
  assert page_of(folder).read_bytes() == first


def test_text_of_a_picture_stays_text(tmp_path):
  figure = style.figure(figsize=(2, 2))
  figure.subplots().set_title('a <b> & c')
  svg = style.to_svg(figure, 'p7')
  assert svg.startswith('<svg')
  assert svg.endswith('</svg>')
  assert 'a &lt;b&gt; &amp; c' in svg
  ids = re.findall(r' id="([^"]*)"', svg)
  assert ids
  assert all(name.startswith('p7-') for name in ids)
  used = re.findall(r'(?:href="|url\()#([^")]*)', svg)
  assert used
  assert {*used} <= {*ids}


EVERY = {
  'metrics.jsonl': [b'', b'{"half', b'5\n', None],
  'config.json': [b'', b'[]', b'\xff', None],
  'summary.json': [b'', b'{}', b'[1]'],
  'history.json': [b'', b'{}', b'{"labels": 5, "theta": [], "bits": null}'],
}


@pytest.mark.parametrize(
  ('name', 'content'),
  [(name, content) for name in EVERY for content in EVERY[name]],
)
def test_a_damaged_file_is_one_clear_error(tmp_path, name, content):
  folder = page_runs.write(tmp_path / 'run')
  if content is None:
    (folder / name).unlink()
  else:
    (folder / name).write_bytes(content)
  with pytest.raises(SystemExit) as caught:
    report.main([str(folder)])
  message = str(caught.value)
  assert message.startswith('error: ')
  assert len(message.splitlines()) == 1
  assert name in message or 'has no round' in message
  assert not (folder / 'report.html').exists()


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['{top}/none'], "There is no run '{top}/none': expected a folder"),
    (['{top}'], 'has no round: metrics.jsonl is missing or empty'),
    (['{top}/a', '{top}/b'], 'Say where the page of 2 runs is to go'),
    (['{top}/a', '{top}/a', '--out={top}'], 'are the same run'),
    (['{top}/a', '--list={top}'], 'got runs and --list'),
    (['--list={top}/none'], "There is no folder '{top}/none'"),
    (['--list={top}/empty'], 'holds no runs'),
    ([], 'Give folders of runs, or one of --list, --bits and --sweep'),
  ],
)
def test_a_mistake_is_one_line(tmp_path, words, message):
  for name in 'ab':
    page_runs.write(tmp_path / name, changes={'x': name})
  (tmp_path / 'empty').mkdir()
  fill = lambda text: text.replace('{top}', str(tmp_path))
  with pytest.raises(SystemExit, match=re.escape(fill(message))):
    report.main([*map(fill, words)])


def test_a_name_that_is_short_says_what_differs(tmp_path):
  a, b, c, d = (
    page_runs.write(tmp_path / name, changes=changes, seed=seed)
    for name, changes, seed in (
      ('a/run', {}, 0),
      ('b/run', {'model': 'conv6'}, 0),
      ('c', {str(i): i for i in range(9)}, 0),
      ('d', {}, 1),
    )
  )

  def names(*folders):
    return [
      (group.name, [run.folder for run in group.runs])
      for group in run_files.groups([run_files.read(f, []) for f in folders])
    ]

  assert names(a) == [('run', [a])]
  assert names(a, d) == [('run', [a, d])]
  assert names(a, b, d) == [('model conv4', [a, d]), ('model conv6', [b])]
  assert names(a, c) == [('run', [a]), ('c', [c])]  # They differ in too much.
  assert names(a, b, c) == [(str(a), [a]), (str(b), [b]), (str(c), [c])]


def test_the_list_has_a_line_a_run(tmp_path, capsys, monkeypatch):
  page_runs.write(tmp_path / 'runs' / 'done')
  page_runs.write(tmp_path / 'runs' / 'a' / 'half', rounds=3, finished=False)
  page_runs.write(tmp_path / 'runs' / 'dense', sampled=False)
  bad = page_runs.write(tmp_path / 'runs' / 'bad\n')
  (bad / 'config.json').write_text('{')
  (tmp_path / 'runs' / 'done' / 'checkpoints' / '5').mkdir(parents=True)
  shutil.copy(
    tmp_path / 'runs' / 'done' / 'metrics.jsonl',
    tmp_path / 'runs' / 'done' / 'checkpoints' / '5',
  )
  monkeypatch.chdir(tmp_path)
  report.main(['--list'])  # of runs/
  said = capsys.readouterr().out
  report.main(['--list', 'runs'])
  assert capsys.readouterr().out == said
  head, *lines = said.split('\n')
  assert re.split('  +', head)[0] == 'folder'
  # Without the last column, which is a time.
  assert [re.split('  +', line)[:-1] for line in lines[:4]] == [
    ['a/half', '3 of 5', '0.6600', '0.6500', '1.9200', '1.4013', 'stopped'],
    [r'bad\n', 'damaged'],
    ['dense', '5 of 5', '0.8200', '1.8400', '1.5208', 'finished'],
    ['done', '5 of 5', '0.8200', '0.8100', '1.8400', '1.5208', 'finished'],
  ]
  assert 'config.json: it is no JSON' in said
  with lock.locked(tmp_path / 'runs' / 'a' / 'half'):
    report.main(['--list', 'runs'])
  assert re.search('a/half .* running ', capsys.readouterr().out)
