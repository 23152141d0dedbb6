"""docs/troubleshooting.md: every line that it quotes is one that users can see."""

import ast
import importlib
import os
import re
import shlex

import pages
import pytest

PAGE = pages.DOCS / 'troubleshooting.md'
BLOCKS = re.findall(r'```text\n(.*?)```', PAGE.read_text(), re.S)
LINES = [line for block in BLOCKS for line in block.splitlines()]
QUOTED = [line for line in LINES if not line.startswith('$ ')]
SHOWN = re.findall(r'^\$ fedpm (.*)\n(.*)$', '\n'.join(LINES), re.M)


def _pattern(node):
  """The texts of a string of the source, as a regular expression."""
  if isinstance(node, ast.JoinedStr):
    return ''.join(map(_pattern, node.values))
  if isinstance(node, ast.FormattedValue):
    # What a choice of the program gives, or anything that is filled in.
    return '.*?'
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    # `logging.warning` fills in %s and %d.
    return re.sub(r'%[sd]', '.*?', re.escape(node.value))
  return ''


def templates():
  """Of every text of the package that could be (a part of) a message."""
  for path in (pages.ROOT / 'fedpm_jax').rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Constant | ast.JoinedStr):
        pattern = _pattern(node)
        words = re.findall('[a-zA-Z]{2,}', pattern.replace('.*?', ' '))
        if len(words) >= 2 and len(pattern) < 2000:
          yield pattern


TEMPLATES = sorted(set(templates()), key=len, reverse=True)
# What the command line adds around a message.
AROUND = r'^error: | \(FEDPM_TRACEBACK=1 shows where\)$'


def uncovered(line):
  """The words of a line that no text of the source accounts for."""
  line = re.sub(AROUND, '', line)
  for pattern in TEMPLATES:
    if re.fullmatch(pattern, line) and len(_fixed(pattern)) >= 12:
      return ''
  for pattern in TEMPLATES:  # else it is put together from several
    found = re.search(pattern, line)
    if found and len(_fixed(pattern)) >= 12:
      line = line[: found.start()] + '|' + line[found.end() :]
  return line


def _fixed(pattern):
  return re.sub(r'\\(.)', r'\1', pattern.replace('.*?', ''))


@pytest.mark.parametrize('line', QUOTED)
def test_every_quoted_line_is_in_the_source(line):
  left = uncovered(line)
  # Of what is left, file names and numbers are the user's.
  words = re.findall(r"(?<![\w/.'-])[a-z]{3,}(?![\w/.'-])", left)
  assert not words, left


def test_a_line_that_nobody_writes_is_found():
  line = 'error: config.rounds must not be odd, got 3. Use an even number.'
  assert uncovered(line) == line.removeprefix('error: ')


@pytest.mark.parametrize(('command', 'shown'), SHOWN)
def test_the_shown_commands_say_so(command, shown, tmp_path, monkeypatch):
  """To the letter.  Nothing is trained: the mistake is found before."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv('FEDPM_TRACEBACK', raising=False)
  name, *flags = shlex.split(command)
  program = importlib.import_module(f'fedpm_jax.{name}')
  with pytest.raises(SystemExit) as stopped:
    program.main(flags)
  assert stopped.value.code == shown
  assert os.listdir(tmp_path) == []


def test_the_page_shows_enough():
  assert len(QUOTED) >= 30
  assert len(SHOWN) >= 10
