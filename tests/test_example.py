"""The worked example of a new method in docs/methods.md: it is run as it stands there."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import toy

from fedpm_jax import compressors, masks
from fedpm_jax.prng import keys

PAGE = pathlib.Path(__file__).parent.parent / 'docs' / 'methods.md'


def example():
  """The factory of the code block that is said to be compressors/binary.py."""
  text = PAGE.read_text()
  block = re.search(r'```python\n("""Stochastic.*?)```', text, re.S)[1]
  namespace = {}
  exec(compile(block, 'binary.py', 'exec'), namespace)
  return namespace['binary']


def test_the_example_is_a_method_with_no_other_change(rng, monkeypatch):
  monkeypatch.setitem(compressors.COMPRESSORS, 'binary', example())
  section = PAGE.read_text().split('binary.py')[1].split('\n## ')[0]
  flags = dict(re.findall(r'--config\.(wire\.\w+)=(\w+)', section))
  assert flags['wire.compressor'] == 'binary'
  row = toy.methods_table()['fedavg'] | flags
  engine = toy.engine_of(toy.named_method(toy.network(), row))
  state, losses = engine.init(), []
  for t in range(8):
    state, line, *_ = engine.run(state, toy.cohort(rng, [0, 1, 2, 3]), t)
    losses.append(line['train/loss'])
  assert losses[-1] < 0.9 * losses[0]
  size = engine.method.network.layout.num_parameters
  payload = line['uplink/bytes'] / 4 - 38  # header and checksums
  assert payload == -(-size // 8)


def test_the_example_has_the_mean_it_should(rng):
  """E = u, cut to what can arrive, within 4 standard errors."""
  layout = masks.Layout(('dense/kernel',), ((64, 1),), (64,))
  spread = 0.01
  update = jnp.asarray(rng.uniform(-1.5 * spread, 1.5 * spread, 64), 'float32')
  made = example()(layout, spread=spread)

  def arrived(words):
    key = keys.wrap(words)
    symbols = made.compress(key, update, update)
    return made.decompress(key, symbols, update)

  words = keys.words(0, keys.Purpose.UPLINK, client=np.arange(4000))
  got = np.asarray(jax.jit(jax.vmap(arrived))(words), np.float64)
  error = got.std(0) / 4000**0.5
  expected = np.clip(np.asarray(update, np.float64), -spread, spread)
  # A chance is never quite 0 or 1, but a multiple of 1/65536.
  assert (np.abs(got.mean(0) - expected) < 4 * error + spread / 2**15).all()
  assert np.allclose(np.abs(got), spread)
