"""The house: imports point down, read off the source by the parser."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'fedpm_jax'

# From the ground up.  A folder imports only folders before it.
FOLDERS = (
  'system',
  'prng',
  'codecs',
  'masks',
  'data',
  'models',
  'compressors',
  'algorithms',
  'protocol',
  'simulation',
  'reports',
  'experiments',
  'federation',
)
# At the top of the package lie the programs, and what a notebook imports.
PROGRAMS = {'__init__', 'cli', 'train', 'sweep', 'report'}
# Only these folders may import that library.
ONLY_IN = {
  'ml_collections': {'experiments', 'programs'},
  'orbax': {'experiments'},
  'matplotlib': {'reports'},
  'constriction': {'codecs'},
  'flwr': {'federation'},
  'flax': {'models', 'protocol', 'experiments'},
}
WITHOUT_JAX = ('codecs', 'data')

FILES = sorted(PACKAGE.rglob('*.py'))
EACH_FILE = pytest.mark.parametrize(
  'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)


def room(path):
  parts = path.relative_to(PACKAGE).parts
  return parts[0] if len(parts) > 1 else 'programs'


def imports(path):
  """Every imported module, dotted, and `fedpm_jax.x` for `from fedpm_jax`."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


@EACH_FILE
def test_imports_point_down(path):
  here = room(path)
  floor = (*FOLDERS, 'programs').index(here)
  for name in imports(path):
    root, *rest = name.split('.')
    assert here in ONLY_IN.get(root, {here}), f'{path} imports {name}'
    if here in WITHOUT_JAX:
      assert root not in ('jax', 'flax', 'optax'), f'{path} imports {name}'
    if root != 'fedpm_jax' or rest[0] == here:
      continue
    if rest[0] in FOLDERS:
      assert FOLDERS.index(rest[0]) < floor, f'{path} imports {name}'
    else:  # a program, or a name of the package itself
      assert here == 'programs', f'{path} imports {name}'


def test_the_package_has_these_rooms_and_nothing_loose():
  found = {path.name for path in PACKAGE.iterdir()} - {'__pycache__'}
  programs = {f'{name}.py' for name in PROGRAMS} | {'py.typed'}
  assert found == set(FOLDERS) | programs


def test_no_file_of_tests_or_benchmarks_is_long():
  for folder in ('tests', 'benchmarks', 'configs'):
    for path in (PACKAGE.parent / folder).rglob('*.py'):
      assert len(path.read_text().splitlines()) <= 400, path


@EACH_FILE
def test_files_and_functions_are_short(path):
  text = path.read_text()
  assert len(text.splitlines()) <= 400
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef):
      body = [n for n in node.body if not _is_docstring(n)]
      lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
      assert lines <= 60, f'{path}: {node.name} has {lines} lines'


def _is_docstring(node):
  return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
