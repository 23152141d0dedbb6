"""The pages of the documentation, and the programs that make parts of them."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / 'docs'
PAGES = [ROOT / 'README.md', *sorted(DOCS.glob('*.md'))]


def tool(name):
  """The module docs/tools/<name>.py."""
  path = DOCS / 'tools' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(f'docs_tools_{name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
