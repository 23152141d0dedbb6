"""The page of all keys, made from the configuration itself.

    python docs/tools/reference.py      writes docs/reference.md

A test compares the page with what this makes, so a new key is not forgotten.
"""

import functools
import importlib
import inspect
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optax

from fedpm_jax import algorithms, codecs, compressors
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import schedules
from fedpm_jax.experiments.options import Option
from fedpm_jax.reports import records

PAGE = pathlib.Path(__file__).parents[1] / 'reference.md'
COMMAND = 'python docs/tools/reference.py'
OPTIMISERS = '## Optimisers'

HEAD = f"""\
# Reference of all keys

Made by `{COMMAND}`; do not edit it.

A key is set by `--config.KEY=VALUE` on the command line, and by `config.KEY = VALUE` in Python. The
defaults below are those of `fp.config()`; a configuration's file, such as
[`digits.py`](../configs/digits.py), changes some of them, and `fedpm train --config=digits --list`
shows its values. [Experiments and their keys](configuration.md) explains the keys that are asked
for most.

A key marked **free** decides no number: it may change while a run goes on, and `rounds` may grow.
Every other key must stay the same.
"""

# The sections of the experiment, in the order of `config.KEYS`.
SECTIONS = {
  '': ('The experiment', 'How long it is, who takes part, and which method.'),
  'data': ('data', 'What is learned from, and how clients share it.'),
  'weights': ('weights', 'The frozen random network.'),
  'optimizer': ('optimizer', "Of clients' local steps."),
  'wire': ('wire', 'What travels, and how it is coded.'),
  'robust': ('robust', 'Against masks that are meant to harm.'),
  'execution': ('execution', 'How the machine is used.'),
  'evaluation': ('evaluation', 'When and how the test set is used.'),
  'stopping': ('stopping', 'What ends a run before its last round.'),
  'checkpoint': ('checkpoint', 'What a run can go on from.'),
}


def page() -> str:
  """The whole page."""
  parts = [HEAD, '## Keys of every run\n', *_experiment()]
  for title, said, table in (
    ('Algorithms', 'algorithm', algorithms.ALGORITHMS),
    ('Compressors', 'wire.compressor', compressors.COMPRESSORS),
    ('Schedules', 'optimizer.schedule', schedules.SCHEDULES),
  ):
    parts += [
      f'## {title}\n',
      f'`{said}` names one. Its options count only where a run uses it.\n',
      *_rows(table),
    ]
  parts += ['## Codecs\n', _codecs(), '## Metrics\n', _metrics()]
  parts += _optimisers()
  return re.sub('\n{3,}', '\n\n', '\n'.join(parts)).rstrip() + '\n'


def _experiment() -> Iterable[str]:
  """The keys of `config.KEYS`, a table a section."""
  sections: dict[str, dict[str, Option]] = {}
  for path, option in configs.KEYS.items():
    section = path.rpartition('.')[0]
    sections.setdefault(section, {})[path] = option
  for section, keys in sections.items():
    # A new section is shown before anybody has described it.
    title, said = SECTIONS.get(section, (section, ''))
    yield f'### {title}\n'
    if said:
      yield f'{said}\n'
    yield _table(keys)


def _rows(table: Mapping[str, Callable[..., Any]]) -> Iterable[str]:
  """A heading, a sentence, the file and the options of every row."""
  for name, function in table.items():
    yield f'### {name}\n'
    yield f'{_sentence(function)} {_file(function)}\n'
    section = configs.ROW_OPTIONS.get(name, {})
    if section:
      yield _table({f'{name}.{key}': value for key, value in section.items()})
    else:
      yield 'No options.\n'


def _codecs() -> str:
  """One table: a codec has no options."""
  lines = [
    '`wire.uplink` and `wire.downlink` name one each. They have no options.'
    ' [File formats](formats.md)\nsays what they write.\n',
    '| codec | number | codes | needs at both ends | |',
    '| --- | --- | --- | --- | --- |',
  ]
  for name, codec in sorted(
    codecs.CODECS.items(), key=lambda item: item[1].number
  ):
    needs = ', '.join(f'`{need}`' for need in codec.needs)
    lines.append(
      f'| `{name}` | {codec.number} | {codec.symbols} | {needs} |'
      f' {_file(codec.decode, codec)} |'
    )
  return '\n'.join(lines) + '\n'


def _metrics() -> str:
  """One table."""
  lines = [
    'The names in `metrics.jsonl` and in a row of `run.rounds()`. Which of them'
    ' are there depends on the\nmethod.\n',
    '| metric | |',
    '| --- | --- |',
  ]
  lines += [f'| `{name}` | {unit} |' for name, unit in records.UNITS.items()]
  return '\n'.join(lines) + '\n'


def _optimisers() -> Iterable[str]:
  """One table for all of optax, without their meanings, which optax documents."""
  yield f'{OPTIMISERS}\n'
  yield (
    '`optimizer.name` names one of optax, here of version'
    f' {optax.__version__}. Where a default is `None`,\nnothing is set.'
    ' [Its documentation]'
    '(https://optax.readthedocs.io/en/latest/api/optimizers.html)\n'
    'explains them, and `fedpm train --list` has the first sentence of each.\n'
  )
  yield '| `optimizer.name` | options `NAME.KEY` and their defaults |'
  yield '| --- | --- |'
  for name in configs.OPTIMIZERS:
    section = configs.ROW_OPTIONS.get(name, {})
    shown = ', '.join(f'`{k}={v.default!r}`' for k, v in section.items())
    yield f'| `{name}` | {shown or "none"} |'
  yield ''


def _table(keys: Mapping[str, Option]) -> str:
  """Keys with default, type and meaning; few columns, for narrow screens."""
  lines = ['| key | default, type | |', '| --- | --- | --- |']
  for path, option in keys.items():
    default = 'not set' if option.default is None else f'`{option.default!r}`'
    meaning = option.meaning.replace('|', '\\|')
    meaning += '' if option.decides else '; **free**'
    kind, least = option.kind.__name__, option.at_least
    kind += '' if least is None else f', >= {least}'
    lines.append(f'| `{path}` | {default}, {kind} | {meaning} |')
  return '\n'.join(lines) + '\n'


def _sentence(function: Callable[..., Any]) -> str:
  """The first paragraph of the docstring of a row's file, or of the row.

  A file of one row is named like it, and says what it is in more words.
  """
  module = importlib.import_module(function.__module__)
  is_alone = module.__name__.endswith(f'.{function.__name__}')
  text = inspect.getdoc(module if is_alone else function) or ''
  return ' '.join(text.split('\n\n')[0].split())


def _file(function: Callable[..., Any], codec: Any = None) -> str:
  """A link to the file of a row."""
  if codec is not None:
    function = inspect.getclosurevars(function).nonlocals['decode']
  if isinstance(function, functools.partial):
    function = function.func
  path = function.__module__.replace('.', '/') + '.py'
  return f'[`{pathlib.Path(path).name}`](../{path})'


def main() -> None:
  """Writes the page."""
  PAGE.write_text(page())


if __name__ == '__main__':
  main()
