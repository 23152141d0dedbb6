"""A hook of mkdocs: links that lead out of docs/, written once for both readers.

A page links a source file as a forge understands it, `../fedpm_jax/cli.py`.  The
site has no such file, so there the link leads to the repository, whose address
is in pyproject.toml.  A picture is shown and not followed, and a page that is
read without a network must have it, so the site gets a copy of it.
"""

import pathlib
import posixpath
import re
import tomllib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[2]
_URLS = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['urls']
REPOSITORY = _URLS['Repository']
PICTURES = 'repository'  # the folder of the site that they are copied to

# Code, where a bracket is no link; or a link, perhaps to a picture.
_CODE_OR_LINK = re.compile(
  r'^```.*?^```$|`[^`\n]*`|(!?)\[((?:[^][]|\[[^][]*\]\([^)]*\))*)\]\(([^)\s]+)\)',
  re.M | re.S,
)
# A forge wants `a\|b` in a table, Python's Markdown `a|b`.
_CODE_IN_TABLE = re.compile(r'`[^`\n]*\\\|[^`\n]*`')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  """Adds the repository to the navigation."""
  config.nav = [*(config.nav or []), {'Repository': REPOSITORY}]
  return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the pictures that pages show from outside of docs/."""
  paths = set()
  for page in files.documentation_pages():
    for found in _CODE_OR_LINK.finditer(page.content_string):
      if found[1]:
        paths.add(_outside(page.src_uri, found[3]))
  for path in sorted(paths - {None}):
    copy = f'{PICTURES}/{path}'
    files.append(File.generated(config, copy, abs_src_path=ROOT / path))
  return files


def on_page_markdown(
  markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
  """Replaces the links of a page."""
  del config, files
  uri = page.file.src_uri
  return in_tables(with_links(markdown, uri))


def with_links(markdown: str, uri: str) -> str:
  """A page's text, with links for the site.

  Args:
    markdown: the text.
    uri: of the page in docs/, such as 'concepts.md'.

  Raises:
    PluginError: a link leads to nothing.
  """

  def replaced(found: re.Match) -> str:
    if found[3] is None:
      return found[0]
    is_picture, label, target = found[1], found[2], found[3]
    if not is_picture:
      label = with_links(label, uri)  # A picture may be what is clicked.
    path = _outside(uri, target)
    if path is None:
      return f'{is_picture}[{label}]({target})'
    if is_picture:
      up = posixpath.relpath(PICTURES, posixpath.dirname(uri) or '.')
      return f'![{label}]({up}/{path})'
    kind = 'tree' if (ROOT / path).is_dir() else 'blob'
    _, hash_, anchor = target.partition('#')
    return f'[{label}]({REPOSITORY}/{kind}/main/{path}{hash_}{anchor})'

  return _CODE_OR_LINK.sub(replaced, markdown)


def in_tables(markdown: str) -> str:
  """A page's text, with the bars of code in tables as Python's Markdown wants."""
  lines = markdown.split('\n')
  plain = lambda found: found[0].replace('\\|', '|')
  return '\n'.join(
    _CODE_IN_TABLE.sub(plain, line) if line.startswith('|') else line
    for line in lines
  )


def _outside(uri: str, target: str) -> str | None:
  """The path in the repository of a link that leads out of docs/, else None."""
  name = target.partition('#')[0]
  if not name or re.match(r'[a-z]+:', name):
    return None
  path = posixpath.normpath(
    posixpath.join('docs', posixpath.dirname(uri), name)
  )
  if path.startswith('docs/'):
    return None
  if not (ROOT / path).exists():
    raise PluginError(f'docs/{uri} links {target!r}, and there is no {path}.')
  return path
