"""The site that mkdocs builds: no warning, no address that a reader's browser
would fetch something from, and links that lead out of docs/."""

import html.parser
import os
import pathlib
import subprocess
import sys
import urllib.parse

import pages
import pytest


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  folder = tmp_path_factory.mktemp('site')
  run = subprocess.run(
    [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', folder],
    cwd=pages.ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {'NO_MKDOCS_2_WARNING': '1'},
  )
  assert run.returncode == 0, run.stderr
  assert 'WARNING' not in run.stderr
  return folder


class Page(html.parser.HTMLParser):
  """What a page's tags point to, and its anchors."""

  def __init__(self, path):
    super().__init__()
    self.links, self.fetched, self.ids = [], [], set()
    self.feed(path.read_text())

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    self.ids.add(attributes.get('id'))
    if tag == 'a' and 'href' in attributes:
      self.links.append(attributes['href'])
    elif tag == 'link' and attributes.get('rel') != 'canonical':
      self.fetched.append(attributes['href'])
    elif 'src' in attributes:
      self.fetched.append(attributes['src'])


def test_nothing_is_fetched_from_elsewhere(site):
  for path in site.glob('*.html'):
    for address in Page(path).fetched:
      assert not urllib.parse.urlsplit(address).netloc, (path.name, address)
      assert path.name == '404.html' or (path.parent / address).exists()
  for path in site.rglob('*.css'):
    assert 'url(http' not in path.read_text().replace('"', ''), path


def test_links_lead_somewhere_in_the_site_or_in_the_repository(site):
  """Whatever the theme adds included."""
  repository = pages.tool('links').REPOSITORY
  out = 0
  for path in site.glob('*.html'):
    for link in Page(path).links:
      address, _, anchor = link.partition('#')
      if address.startswith((f'{repository}/blob/', f'{repository}/tree/')):
        kind, branch, name = address[len(repository) + 1 :].split('/', 2)
        assert branch == 'main'
        found = pages.ROOT / name
        assert found.is_dir() if kind == 'tree' else found.is_file(), link
        out += 1
      elif not urllib.parse.urlsplit(address).netloc and path.stem != '404':
        target = (path.parent / address) if address else path
        target = target / 'index.html' if target.is_dir() else target
        assert target.exists(), (path.name, link)
        if anchor and not anchor.startswith('__'):
          assert anchor in Page(target).ids, (path.name, link)
  assert out > 50


def test_a_picture_from_outside_is_in_the_site(site):
  text = (pages.DOCS / 'methods.md').read_text()
  assert '](../results/comparison/digits_points.png)' in text
  picture = pathlib.Path('repository/results/comparison/digits_points.png')
  assert f'src="{picture}"' in (site / 'methods.html').read_text()
  assert (site / picture).stat().st_size > 10_000


def test_code_is_left_alone():
  links = pages.tool('links')
  text = '`[a](../README.md)`\n```\n[b](../README.md)\n```\n'
  assert links.with_links(text, 'page.md') == text
  assert links.with_links('[a](../README.md)', 'page.md') == (
    f'[a]({links.REPOSITORY}/blob/main/README.md)'
  )
  assert links.in_tables('| `a\\|b` |\n`a\\|b`') == '| `a|b` |\n`a\\|b`'
