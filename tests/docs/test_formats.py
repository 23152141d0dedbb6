"""The bytes that docs/formats.md shows are those that the package writes."""

import re

import pages
import pytest

from fedpm_jax import codecs
from fedpm_jax.experiments import checkpoint, earlier, packing
from fedpm_jax.protocol import description, model_file, wire
from fedpm_jax.reports import history, records, summary
from fedpm_jax.simulation import rounds

TEXT = (pages.DOCS / 'formats.md').read_text()


def section(title, depth=2):
  marks = '#' * depth
  return re.search(
    rf'^{marks} {title}$(.*?)(?=^#{{1,{depth}}} |\Z)', TEXT, re.M | re.S
  )[1]


def test_the_code_prints_what_the_page_shows(capsys):
  """The blocks in their order, as one program."""
  blocks = re.findall(r'```python\n(.*?)```\n\n```text\n(.*?)```', TEXT, re.S)
  assert len(blocks) == TEXT.count('```python') == 3
  names = {}
  for code, shown in blocks:
    exec(compile(code, 'formats.md', 'exec'), names)
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize('example', [0, 1])
def test_the_explained_bytes_are_those_of_the_message(example):
  """Every byte of the two messages, and the offsets too."""
  part = section('Example: ten mask bits', 3)
  dump = re.findall(r'```text\n(.*?)```', part, re.S)[example]
  message = bytes.fromhex(
    ''.join(re.findall(r'^[0-9a-f]{4}  (.*)$', dump, re.M))
  )
  table = part.split('| offset | bytes | meaning |')[1 + example]
  rows = re.findall(r'^\| (\d+) \| `([0-9a-f ]+)` \| ', table, re.M)
  explained = b''
  for offset, hexadecimal in rows:
    assert int(offset) == len(explained)
    explained += bytes.fromhex(hexadecimal)
  assert explained == message


def test_the_tables_of_fields_are_the_structures():
  numbers = lambda part: [
    int(n) for n in re.findall(r'^\| \d+ \| (\d+) \|', part, re.M)
  ]
  assert numbers(section('A message')) == [3, 1, 1, 1, 4, 4, 8, 4, 4, 4]
  assert wire._HEADER.format == '<3sBBBII8sIII'
  assert f'version of the format, {wire.VERSION}' in section('A message')
  assert numbers(section('The model file')) == [4, 1, 4]
  assert model_file._HEAD.format == '<4sBI'
  head = f'version of the format, {model_file._VERSION}'
  assert head in section('The model file')


def test_the_table_of_codecs_is_complete():
  rows = re.findall(r'^\| (\d+) \| `(\w+)` \| (\w+) \|', TEXT, re.M)
  words = {'float32': 'weights', 'index': 'indices'}
  assert rows == [
    (str(codec.number), name, words.get(codec.symbols, codec.symbols))
    for name, codec in sorted(
      codecs.CODECS.items(), key=lambda item: item[1].number
    )
  ]


def test_the_fields_of_json_are_named():
  for shape, title in (
    (records.ROW, 'metrics.jsonl'),
    (summary.SHAPE, 'summary.json, config.json, starts.jsonl'),
    (summary.SHAPE['model'], 'summary.json, config.json, starts.jsonl'),
    (checkpoint._SHAPE['content'], 'Checkpoints'),
    (description._SHAPE['spec'], 'The model file'),
    (description._SHAPE, 'The model file'),
    (dict.fromkeys(rounds.Kept._fields), 'Symbols'),
    ({earlier.ENDED: str}, 'summary.json, config.json, starts.jsonl'),
    (packing.SHAPE, 'Checkpoints'),
    (history.SHAPE, 'history.json'),
    (history._SHAPE_OF_BITS, 'history.json'),
  ):
    part = section(title)
    for name in shape:
      if name is not str:
        assert re.search(rf'[`/.]{name}[`.]', part), (title, name)
