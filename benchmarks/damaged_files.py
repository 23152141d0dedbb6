"""Damaged files: one at a time, of every kind that a run leaves."""

import collections
import contextlib
import hashlib
import json
import pathlib
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import fedpm_jax as fp
from fedpm_jax.data import cache, sources
from fedpm_jax.experiments import codec_report
from fedpm_jax.reports import compare, records
from fedpm_jax.system import files

SLOW = 10.0  # seconds
SMALL = {
  'rounds': 4,
  'num_clients': 4,
  'clients_per_round': 3,
  'local_epochs': 1,
  'batch_size': 8,
  'model': 'cnn',
  'data.max_examples': 16,
  'checkpoint.every': 1,
  'fedpm.persistent_optimizer': True,
}
Tally = collections.Counter
COLUMNS = ('same end', 'named', 'changed', 'other error', f'over {SLOW:.0f} s')


def config(**changes) -> fp.config:
  """The configuration of all runs here."""
  made = fp.config()
  made.update_from_flattened_dict(SMALL | changes)
  return made


def outcome(workdir: pathlib.Path) -> str:
  """A digest of what must be the same."""
  rows = [
    {k: v for k, v in row.items() if not k.startswith('time/')}
    for row in records.read_rows(workdir / 'metrics.jsonl')
  ]
  model = (workdir / 'model.fedpm').read_bytes()
  return hashlib.sha256(json.dumps(rows).encode() + model).hexdigest()


def damage(path: pathlib.Path, draw: random.Random) -> None:
  """Damages a file in one of the ways in which files are damaged."""
  data = bytearray(path.read_bytes())
  place = draw.randrange(len(data)) if data else 0
  kind = draw.choice(
    ('flip', 'cut', 'empty', 'zeros', 'noise', 'repeat', 'gone', 'folder')
  )
  if kind == 'flip' and data:
    data[place] ^= 1 << draw.randrange(8)
  elif kind == 'cut':
    del data[place:]
  elif kind == 'empty':
    data.clear()
  elif kind == 'zeros':
    data[place:] = bytes(len(data) - place)
  elif kind == 'noise':
    data[place : place + 64] = draw.randbytes(64)
  elif kind == 'repeat':
    data[place:place] = data[: place + 1]
  path.unlink()
  if kind == 'folder':
    path.mkdir()
  elif kind != 'gone':
    path.write_bytes(data)


def judge(
  path: pathlib.Path,
  folder: pathlib.Path,
  act: Callable[[pathlib.Path], str],
  expected: str,
) -> tuple[str, float]:
  """What became of an action after a file was damaged; how long it took.

  An action ends as before, or its text or its error names the file, or the run
  that the file is of.
  """
  begun = time.monotonic()
  try:
    text = act(folder)
    failed = False
  except (ValueError, OSError) as error:
    text, failed = str(error), True
  except Exception as error:
    return f'{type(error).__name__}: {error}'[:300], time.monotonic() - begun
  seconds = time.monotonic() - begun
  if text == expected:
    return 'same end', seconds
  inner = path.relative_to(folder)
  # A checkpoint and a run of a sweep are named by their folders.
  names = [path.name, *(str(p) for p in inner.parents if len(p.parts) > 1)]
  if not path.exists():  # Then it may say that there is none in the folder.
    names.append(str(folder))
  is_named = any(name in text for name in names)
  if is_named and not (failed and '\n' in text):
    return 'named', seconds
  return text[:300] if failed else 'changed', seconds


def subjects(folder: pathlib.Path) -> dict[str, tuple]:
  """{kind: (whole folder, its files, what is done with the folder)}."""
  part, whole, sweep = (folder / x for x in ('part', 'whole', 'sweep'))
  stop = iter([False, False, True]).__next__
  with contextlib.suppress(fp.Stopped):
    fp.train(config(), part, stop=stop)
  fp.train(config(), whole)
  for seed in (0, 1):
    inner = sweep / f'digits/fedpm/seed_{seed}'
    labels = {'data': 'digits', 'method': 'fedpm', 'seed': str(seed)}
    fp.train(config(seed=seed), inner)
    files.write_json(inner / 'labels.json', labels)
  names = [f'digits/fedpm/seed_{seed}' for seed in (0, 1)]
  files.write_json(sweep / 'sweep.json', names)
  data = sources.load('digits')
  arrays = {'x': data.x_train, 'y': data.y_train}
  cache.write(folder / 'cache' / 'data.npz', 'key', arrays)

  def go_on(at):
    fp.train(config(), at)
    return outcome(at)

  def finish(at):
    summary = fp.train(config(), at)
    same = {k: summary[k] for k in ('best', 'total', 'mean', 'model', 'config')}
    del same['total']['time/round_s']
    return outcome(at) + json.dumps(files.to_json(same), sort_keys=True)

  def load(at):
    model = fp.load(at / 'model.fedpm')
    return hashlib.sha256(model.values.tobytes()).hexdigest()

  def bits(at):
    return codec_report.compare_codecs(at).replace(str(at), '')

  def report(at):
    text = compare.compare_runs(at, at / 'out', targets={})
    return text.replace(str(at), '')

  def read_cache(at):
    found = cache.read(at / 'data.npz', 'key')
    if found is None:
      raise ValueError(f'{at}/data.npz is decoded again.')
    return str({k: hashlib.sha256(v).hexdigest() for k, v in found.items()})

  newest = 'checkpoints/3'
  return {
    'newest checkpoint, arrays': (part, f'{newest}/state/**/*', go_on),
    'newest checkpoint, `run.json`': (part, f'{newest}/run.json', go_on),
    '`metrics.jsonl` of a stopped run': (part, 'metrics.jsonl', go_on),
    '`config.json`, `starts.jsonl`': (part, '[cs]*s*.json*', go_on),
    '`summary.json` of a finished run': (whole, 'summary.json', finish),
    '`model.fedpm` of a finished run': (whole, 'model.fedpm', finish),
    'model file, `fp.load`': (whole, 'model.fedpm', load),
    'kept masks, `report --bits`': (whole, 'symbols/*.npz', bits),
    'a run of `report --sweep`': (sweep, 'digits/fedpm/seed_1/*.json*', report),
    'cache of decoded data': (folder / 'cache', 'data.npz', read_cache),
  }


def damages(folder, number: int, draw) -> Iterator[tuple[str, Tally]]:
  """Damages one file at a time, and does what a user would do next."""
  kinds = subjects(folder)
  for kind, (whole, pattern, act) in kinds.items():
    tally, copy = Tally(), folder / 'copy'
    shutil.copytree(whole, copy)
    expected = act(copy)
    shutil.rmtree(copy)
    for _ in range(max(1, number // len(kinds))):
      shutil.copytree(whole, copy)
      path = draw.choice(sorted(p for p in copy.glob(pattern) if p.is_file()))
      damage(path, draw)
      verdict, seconds = judge(path, copy, act, expected)
      if verdict not in COLUMNS:
        print(f'{kind}: {path.name}: {verdict}', file=sys.stderr)
        verdict = 'other error'
      tally[verdict] += 1
      tally[COLUMNS[-1]] += seconds > SLOW
      shutil.rmtree(copy)
    yield kind, tally
