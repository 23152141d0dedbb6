"""What the checkout in the current folder computes; see ../same_numbers.py.

Knows the names of the first house (commit 4ca5c35) and of today's.
"""

import hashlib
import importlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path.cwd()))
# An editable install would lend this checkout modules that it does not have.
sys.meta_path = [x for x in sys.meta_path if 'Editable' not in str(x)]


def digest(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()[:16]


def module(*names: str):
  """The first of these modules that this checkout has."""
  for name in names:
    try:
      return importlib.import_module(name)
    except ModuleNotFoundError:
      continue
  raise ModuleNotFoundError(f'none of {names}')


class Tap:
  """Notes down every message that is written, whichever thread writes it."""

  def __init__(self):
    wire = module('fedpm_jax.protocol.wire', 'fedpm_jax.wire')
    encode, self.messages = wire.encode, {}

    def tapped(symbols, side, **address):
      message = encode(symbols, side, **address)
      kind, client = int(address['kind']), int(address['client'])
      number = sum(
        key[:3] == (address['round_idx'], kind, client)
        for key in list(self.messages)
      )
      key = (address['round_idx'], kind, client, number)
      self.messages[key] = bytes(message)
      return message

    wire.encode = tapped


def run(config, folder: pathlib.Path, tap: Tap) -> dict[str, str]:
  """The digests of one run."""
  import numpy as np

  tap.messages.clear()
  if hasattr(module('fedpm_jax'), '__getattr__'):
    import fedpm_jax as fp

    fp.train(config, folder)
    experiment = fp.Experiment(config)
    theta = experiment.saved_state(folder).state.server
  else:
    from fedpm_jax import experiment as experiments
    from fedpm_jax import train

    train.train(config, folder)
    theta = experiments.restore(experiments.build(config), folder).server
  found = {
    f'message {key}': digest(message)
    for key, message in sorted(tap.messages.items())
  }
  import jax

  for i, leaf in enumerate(jax.tree.leaves(theta)):
    found[f'server state {i}'] = digest(np.asarray(leaf).tobytes())
  found['model file'] = digest((folder / 'model.fedpm').read_bytes())
  for path in sorted((folder / 'symbols').glob('*.npz')):
    with np.load(path) as kept:
      found[path.name] = digest(kept['symbols'].tobytes() + kept['q'].tobytes())
  for number, line in enumerate((folder / 'metrics.jsonl').open()):
    for name, value in json.loads(line).items():
      if not name.startswith('time/'):
        found[f'row {number} {name}'] = repr(value)
  return found


def main() -> None:
  task = json.loads(sys.argv[1])
  tap, results = Tap(), {}
  files = module('fedpm_jax.experiments.config_files', 'fedpm_jax.sweep')
  methods = files.load(pathlib.Path('configs') / 'methods.py')
  runs = {name: (name, {}) for name in methods.METHODS}
  runs |= {name: ('fedpm', extra) for name, extra in task['extras'].items()}
  for name, (method, changes) in runs.items():
    config = methods.get_config(method)
    config.update_from_flattened_dict(
      {'model': 'cnn', 'rounds': task['rounds'], 'wire.keep_every': 1} | changes
    )
    folder = pathlib.Path(task['folder']) / name
    print(name, file=sys.stderr, flush=True)
    results[name] = run(config, folder, tap)
  path = pathlib.Path(task['folder']) / 'digests.json'
  path.write_text(json.dumps(results))


if __name__ == '__main__':
  main()
