"""The page of all keys is what its program makes of the configuration."""

import re

import optax
import pages

from fedpm_jax.experiments import config as configs

REFERENCE = pages.DOCS / 'reference.md'


def test_the_page_is_what_the_program_makes():
  program = pages.tool('reference')
  there, made = REFERENCE.read_text(), program.page()
  # What optax offers depends on its version, which the page names.
  if f'here of version {optax.__version__}.' not in there:
    there, made = (
      text.partition(program.OPTIMISERS)[0] for text in (there, made)
    )
  assert there == made, f'docs/reference.md is old. Run: {program.COMMAND}'


def test_every_key_is_on_the_page():
  text = REFERENCE.read_text()
  for path in configs.every_key():
    section, _, key = path.rpartition('.')
    if section in configs.OPTIMIZERS:
      row = re.search(rf'^\| `{section}` \| .*$', text, re.M)
      assert f'`{key}=' in row[0], path
    else:
      assert f'| `{path}` | ' in text, path
