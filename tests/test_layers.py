"""The house: imports point down, read off the source by the parser."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'fedpm_jax'

# A module may import those of lower floors, and what is named beside it.
FLOORS = {
  'version': 0,
  'allocator': 0,
  'barriers': 0,
  'machine': 0,
  'threefry': 0,
  'keys': 0,
  'dithers': 0,
  'masks': 1,
  'models': 1,
  'data': 1,
  'codecs': 1,
  'compressors': 2,
  'local': 2,
  'network': 2,
  'algorithms': 3,
  'rounds': 4,
  'turns': 4,
  'aggregation': 4,
  'exchange': 4,
  'bits': 4,
  'wire': 4,
  'evaluate': 4,
  'metrics': 4,
  'checkpoint': 4,
  'artifact': 4,
  'train': 5,
  'experiment': 5,
  'method': 5,
  'plots': 5,
  'report': 5,
  'config': 5,
  'comparison': 5,
  'comparison_plots': 5,
  'comparison_tables': 5,
  'workers': 5,
  'sweep': 5,
}
SAME_FLOOR = {
  'keys': {'threefry'},
  'dithers': {'threefry', 'barriers'},
  'rounds': {'turns', 'exchange', 'aggregation', 'bits'},
  'turns': {'exchange'},
  'bits': {'exchange', 'wire', 'metrics'},
  'exchange': {'wire', 'aggregation'},
  'artifact': {'wire', 'metrics'},
  'experiment': {'config', 'method'},
  'method': {'config'},
  'comparison_plots': {'comparison', 'plots'},
  'comparison_tables': {'comparison'},
  'report': {
    'plots',
    'experiment',
    'config',
    'comparison',
    'comparison_plots',
    'comparison_tables',
  },
  'sweep': {'train', 'config', 'method', 'workers'},
  'train': {'plots', 'report', 'experiment'},
}
FORBIDDEN = {
  'algorithms': {'data', 'codecs', 'models', 'wire', 'network'},
  'codecs': {'jax', 'flax', 'optax'},
  'data': {'jax', 'flax', 'optax'},
}
EVERYWHERE_BUT = {
  'ml_collections': {'train', 'experiment', 'config', 'method', 'sweep'}
}

FILES = sorted(PACKAGE.rglob('*.py'))


def _room(path):
  return path.relative_to(PACKAGE).with_suffix('').parts[0]


def _imports(path):
  """Every imported module, dotted, and `fedpm_jax.x` for `from fedpm_jax`."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize(
  'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_down(path):
  room = _room(path)
  if room == '__init__':
    return
  for name in _imports(path):
    root, *rest = name.split('.')
    assert root not in FORBIDDEN.get(room, ()), f'{path} imports {name}'
    assert room in EVERYWHERE_BUT.get(root, {room}), f'{path} imports {name}'
    if root != 'fedpm_jax' or rest[0] == room:
      continue
    assert rest[0] not in FORBIDDEN.get(room, ()), f'{path} imports {name}'
    below = FLOORS[rest[0]] < FLOORS[room]
    beside = rest[0] in SAME_FLOOR.get(room, ())
    assert below or beside, f'{path} imports {name}'


def test_every_room_has_a_floor_and_every_floor_a_room():
  assert {_room(path) for path in FILES} - {'__init__'} == set(FLOORS)


@pytest.mark.parametrize(
  'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_files_are_short(path):
  assert len(path.read_text().splitlines()) <= 400
