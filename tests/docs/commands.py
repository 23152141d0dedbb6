"""Every command of README and docs/, and which of them only a person can run."""

import re

import pages

# A fence of another language holds no commands.
NO_COMMANDS = ('python', 'text', 'toml')
# In a sentence or a table, only these are taken for commands: what is one word,
# or ends without a value, is a name.
INLINE = re.compile(
  r'`((?:fedpm\s+(?:train|sweep)|fedpm\s+report\s+(?:--\w+=|runs/)|make'
  r'|python\s+(?:benchmarks/|-m\s))[^`]*)`'
)

# How a command begins -> why no test runs it.  The longest beginning counts.
BY_HAND = {
  'make run': 'a whole run; its command is that of `fedpm train`',
  'make test': 'it would start this test again; CI runs it',
  'make docs': 'CI runs it, and test_site.py builds the same site',
  'pip install': 'needs a package index; tests/test_package.py installs a wheel',
  'python3 -m venv': 'needs a package index',
  '.venv/bin/pip install': 'likewise',
  "python -c 'import tensorflow_datasets": 'needs TensorFlow and a network',
  'python -m http.server': "Python's own, and it does not end",
  'flwr federation': "changes the user's own configuration of Flower",
  'flwr run': 'needs processes of Flower; its flags are checked below, and'
  ' tests/federation has whole runs',
  'flwr supernode register': 'needs a SuperLink',
  'flower-superlink': 'does not end; benchmarks/federation.py starts it',
  'flower-supernode': 'does not end; benchmarks/federation.py starts it',
  'export FLWR': 'sets what the lines below it need',
  'flags=': 'sets what the line below it needs',
  'echo subjectAltName': 'part of making a certificate',
  'openssl': 'benchmarks/federation.py, `tls`, makes the same certificate',
  'ssh-keygen': 'benchmarks/federation.py, `tls`, makes the same key',
  'python benchmarks/federation.py': 'minutes; its flags are checked',
  'python benchmarks/parity.py': "needs PyTorch and the authors' code; likewise",
  'python benchmarks/peers.py': 'needs four other programs; likewise',
  'python benchmarks/own_modules.py': 'minutes; likewise',
  'python benchmarks/large_data.py': 'minutes, gigabytes; likewise',
  'python benchmarks/robustness.py': 'an hour; likewise',
  'python benchmarks/hosts.py': 'minutes; likewise',
  'srun': 'needs SLURM; likewise',
  'fedpm train --config=cifar100 --distributed': 'needs a TPU; likewise',
  'export JAX': 'sets what the lines below it need',
  'fedpm train --coordinator': 'several processes;'
  ' tests/experiments/test_several_hosts.py starts them',
  'python benchmarks/chunks.py': 'needs a GPU; likewise',
  'python benchmarks/codecs.py': 'minutes; likewise',
  'python benchmarks/populations.py': 'minutes; likewise',
  'python benchmarks/round.py': 'minutes, or a GPU; likewise',
}


def _lines(block):
  """The commands of a block: a line each, or more where a quote is open."""
  text = block.replace('\\\n', ' ')
  whole = ''
  for line in text.splitlines():
    whole += line
    if whole.count("'") % 2 and '#' not in whole:
      whole += '\n'
      continue
    # A comment is at the end, after spaces.
    whole = re.sub(r'(^|\s+)#(?=\s).*$', '', whole)
    yield re.sub(' +', ' ', whole).strip()
    whole = ''
  assert not whole, whole


def _of(page):
  text = page.read_text()
  for language, block in re.findall(
    r'^```(\w*)\n(.*?)^```$', text, re.M | re.S
  ):
    if language not in NO_COMMANDS:
      for line in _lines(block):
        yield from line.split(' && ')
  prose = re.sub(r'^```.*?^```$', '', text, flags=re.M | re.S)
  for found in INLINE.findall(prose):
    yield ' '.join(found.split())


def every():
  """Each command once, in order."""
  found = [command for page in pages.PAGES for command in _of(page)]
  return [command for command in dict.fromkeys(found) if command]


def reason(command):
  """Why it is run by hand; None where a test runs it."""
  fitting = [start for start in BY_HAND if command.startswith(start)]
  return BY_HAND[max(fitting, key=len)] if fitting else None
