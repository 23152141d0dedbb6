"""A plain Flax module on a CPU: `nn.Conv` by our lowerings against XLA's.

    python benchmarks/own_modules.py [--json FILE] [--repeats 9]

Each case is a network that is computed in several ways, and a training step of
K clients with weights of their own, one client after another or side by side,
as `execution.chunk` has it.  Nothing but the gradient is measured.  The ways
take turns, so that a busy machine slows all of them; a ratio is the median of
the ratios of a turn.

  row   the row of `models.MODELS`, with convolutions written for this package
  ours  the same network in plain Flax, by `execution.lowering=auto`
  lax   plain Flax as Flax computes it, `execution.lowering=lax`

Beside them a square matrix product takes its turn.  `share_of_peak` is what the
convolutions and dense layers of `ours` have in FLOPs, by the FLOPs that the
product does in that time.  They are counted as plain sums, three times for a
training step, so that Winograd's filtering may have more than 1.
"""

import argparse
import json
import math
import pathlib
import platform
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedpm_jax import masks
from fedpm_jax.models import network as networks
from fedpm_jax.models import resnet

CLIENTS = 4


class Plain(nn.Module):
  """The row 'cnn' or 'conv4' as somebody would write it in Flax."""

  widths: tuple[int, ...]
  dense: tuple[int, ...]

  @nn.compact
  def __call__(self, x):
    for i, width in enumerate(self.widths):
      x = nn.relu(nn.Conv(width, (3, 3))(x))
      if i % 2:
        x = nn.max_pool(x, (2, 2), (2, 2))
    x = x.reshape(len(x), -1)
    for width in self.dense:
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(10)(x)


class Strided(nn.Module):
  """A bottleneck: 1x1, strided 3x3 and grouped convolutions, no pool."""

  @nn.compact
  def __call__(self, x):
    for width in (32, 64, 128):
      x = nn.relu(nn.Conv(width, (1, 1))(x))
      x = nn.relu(nn.Conv(width, (3, 3), feature_group_count=4)(x))
      x = nn.relu(nn.Conv(width, (3, 3), strides=2)(x))
    return nn.Dense(10)(x.mean((1, 2)))


RESNET = resnet.resnet18(num_classes=10)
CNN = Plain((32, 64), (128,))
CONV4 = Plain((64, 64, 128, 128), (256, 256))
# name: (module, row of MODELS or None, images [H, W, C], batch, chunk)
CASES = {
  'cnn, batch 10, in turn': (CNN, 'cnn', (32, 32, 3), 10, 1),
  'cnn, batch 10, 4 side by side': (CNN, 'cnn', (32, 32, 3), 10, 4),
  'conv4, batch 8, in turn': (CONV4, 'conv4', (28, 28, 1), 8, 1),
  'strided, batch 8, in turn': (Strided(), None, (32, 32, 3), 8, 1),
  'strided, batch 8, 4 side by side': (Strided(), None, (32, 32, 3), 8, 4),
  **{
    f'resnet18, batch {batch}, in turn': (RESNET, None, (32, 32, 3), batch, 1)
    for batch in (1, 2, 8, 16, 32)
  },
}
NO_LAX = ('resnet18',)  # These are compared with the peak alone.
PRODUCT = 2048  # rows and columns


def flops_of_step(module, images) -> int:
  """Of one client's training step, by the layers that the module calls."""
  counted = []

  def note(next_fun, args, kwargs, context):
    result = next_fun(*args, **kwargs)
    if isinstance(context.module, nn.Conv | nn.Dense):
      kernel = context.module.get_variable('params', 'kernel')
      places = math.prod(result.shape[:-1])
      counted.append(2 * places * math.prod(kernel.shape))
    return result

  scaled = jax.ShapeDtypeStruct(images.shape, jnp.float32)
  with nn.intercept_methods(note):
    jax.eval_shape(module.init, jax.random.key(0), scaled)
  return 3 * sum(counted)


def step_of(network, images, chunk):
  """Compiled: the gradients of all clients, each by its own weights."""

  def loss(flat):
    logits = network.apply(masks.unravel(network.layout, flat), images)
    return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

  def step(weights):
    gradient = jax.vmap(jax.grad(loss))
    return jax.lax.map(gradient, weights.reshape(-1, chunk, weights.shape[-1]))

  flat = jnp.stack([network.weights()] * CLIENTS)
  compiled = jax.jit(step, compiler_options=network.compiler_options)
  compiled = compiled.lower(flat).compile()
  return lambda: jax.block_until_ready(compiled(flat))


def measure(name, repeats):
  """A row: milliseconds of a client's step in each way, and their ratios."""
  module, row, shape, batch, chunk = CASES[name]
  spec = networks.Spec('own', shape, 10, 0, 'signed_constant', 1.4)
  ways = {'ours': networks.build(spec, module=module)}
  if not name.startswith(NO_LAX):
    ways['lax'] = networks.build(spec, module=module, lowering='lax')
  if row:
    ways = {'row': networks.build(spec._replace(model=row))} | ways
  images = jax.random.bits(jax.random.key(0), (batch, *shape), jnp.uint8)
  steps = {way: step_of(net, images, chunk) for way, net in ways.items()}
  matrix = jax.random.normal(jax.random.key(0), (PRODUCT, PRODUCT))
  product = jax.jit(lambda a: a @ a)
  steps['product'] = lambda: jax.block_until_ready(product(matrix))
  for step in steps.values():
    step()
  times = {way: [] for way in steps}
  for _ in range(repeats):
    for way, step in steps.items():
      start = time.perf_counter()
      step()
      clients = 1 if way == 'product' else CLIENTS
      times[way].append((time.perf_counter() - start) / clients)
  ratio = lambda one, other: statistics.median(
    a / b for a, b in zip(times[one], times[other], strict=True)
  )
  found = {'case': name} | {
    f'{way}_ms': round(1000 * statistics.median(t), 2)
    for way, t in times.items()
  }
  work = flops_of_step(module, images) / (2 * PRODUCT**3)
  found['share_of_peak'] = work * ratio('product', 'ours')
  if 'lax' in ways:
    found['ours_to_lax'] = ratio('ours', 'lax')
  if row:
    found['ours_to_row'] = ratio('ours', 'row')
  return {
    k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--json', help='a file, a line for each case')
  parser.add_argument('--repeats', type=int, default=9)
  parser.add_argument('--case', nargs='+', choices=CASES, default=list(CASES))
  args = parser.parse_args()
  lines = []
  for name in args.case:
    row = measure(name, args.repeats) | {
      'repeats': args.repeats,
      'jax': jax.__version__,
      'machine': platform.machine(),
    }
    lines.append(json.dumps(row))
    print(lines[-1], flush=True)
  if args.json:
    pathlib.Path(args.json).write_text('\n'.join(lines) + '\n')


if __name__ == '__main__':
  main()
