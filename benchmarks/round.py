"""How fast a round is, and what share of the machine's matrix peak it reaches.

    python benchmarks/round.py --model conv6 --clients 10 --batch 128 --json FILE
    python benchmarks/round.py --table [--json FILE]

One configuration, or a table of CONV-4, 6 and 10 with 2 and 10 clients and
every lowering, each in a process of its own, so that peak memory is its own.
Random images in the shape of the paper's data set for that network.

GFLOP/s count a plain convolution's multiplications and additions, forward and
twice that backward, whatever the lowering does; the peak is that of float32
matrix products of 2048^3, one a device, in the same process.  Times are medians.
"""

import argparse
import json
import math
import pathlib
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from fedpm_jax import allocator  # noqa: E402

SHAPES = {  # image, classes
  'conv2': ((28, 28, 1), 10),
  'conv4': ((28, 28, 1), 10),
  'conv6': ((32, 32, 3), 10),
  'conv8': ((32, 32, 3), 10),
  'conv10': ((32, 32, 3), 100),
}
TABLE = [
  {'model': model, 'clients': clients, 'lowering': lowering}
  for model in ('conv4', 'conv6', 'conv10')
  for clients in (2, 10)
  for lowering in ('winograd', 'im2col', 'lax')
]
COLUMNS = (
  'model',
  'clients',
  'lowering',
  'seconds_per_client_step',
  'seconds_per_round',
  'gflops',
  'share_of_peak',
  'peak_memory_mib',
  'compile_s',
)


def flops_of_step(layout, image_shape, batch) -> float:
  """Of one client's training step, a plain convolution's arithmetic."""
  height, width, _ = image_shape
  forward = 0
  kernels = [
    shape
    for name, shape in zip(layout.names, layout.shapes, strict=True)
    if name.endswith('kernel')
  ]
  convolutions = [shape for shape in kernels if len(shape) == 4]
  for i, shape in enumerate(convolutions):
    forward += height * width * math.prod(shape)
    if i % 2:  # a pool after every second one
      height, width = height // 2, width // 2
  forward += sum(math.prod(shape) for shape in kernels if len(shape) == 2)
  return 2.0 * 3 * batch * forward


def seconds(function, repeats):
  """The median time of a call, the first one left out."""
  import jax
  import numpy as np

  times = []
  for _ in range(repeats + 1):
    start = time.perf_counter()
    jax.block_until_ready(function())
    times.append(time.perf_counter() - start)
  return float(np.median(times[1:]))


def measure(args) -> dict:
  """One configuration, in this process."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  import optax

  from fedpm_jax import algorithms, compressors, machine, rounds
  from fedpm_jax import network as networks

  machine.use_all_cores()
  image_shape, classes = SHAPES[args.model]
  network = networks.build(
    networks.Spec(
      model=args.model,
      image_shape=image_shape,
      num_classes=classes,
      seed=0,
      weight_kind='signed_constant',
      weight_gain=math.e,
    ),
    lowering=args.lowering,
  )
  algorithm = algorithms.ALGORITHMS['fedpm'](network, optax.adam(0.1))
  rng = np.random.default_rng(0)
  count = args.clients * args.batch
  images = rng.integers(0, 256, (count, *image_shape)).astype(np.uint8)
  engine = rounds.Engine(
    rounds.Method(
      network,
      algorithm,
      compressors.COMPRESSORS['bernoulli'](),
      'dither',
      'theta_news',
    ),
    seed=0,
    num_clients=args.clients,
    images=images,
    labels=rng.integers(0, classes, count).astype(np.int32),
    mesh=rounds.make_mesh(args.clients),
    chunk=args.chunk,
  )
  shape = (args.clients, args.steps, args.batch)
  cohort = rounds.Cohort(
    np.arange(args.clients, dtype=np.int32),
    rng.integers(0, count, shape).astype(np.int32),
    np.ones(shape, np.bool_),
  )
  state = engine.init()
  start = time.perf_counter()
  state, _ = engine.run(state, cohort, 0)
  first = time.perf_counter() - start
  rows = []
  for round_idx in range(1, args.repeats + 1):
    state, row = engine.run(state, cohort, round_idx)
    rows.append(row)
  median = lambda name: float(np.median([row[name] for row in rows]))
  # On all devices at once: on a CPU they share the cores.
  devices = jax.devices()
  matrices = [
    jax.device_put(jnp.ones((2048, 2048), jnp.float32), device)
    for device in devices
  ]
  product = jax.jit(lambda a: a @ a)
  time_of_all = seconds(lambda: [product(m) for m in matrices], 7)
  peak = len(devices) * 2 * 2048**3 / time_of_all / 1e9
  step = median('time/clients_s') / (args.clients * args.steps)
  gflops = flops_of_step(network.layout, image_shape, args.batch) / step / 1e9
  rounded = lambda value: float(f'{value:.4g}')
  return {
    'model': args.model,
    'clients': args.clients,
    'batch': args.batch,
    'steps': args.steps,
    'chunk': args.chunk,
    'lowering': args.lowering,
    'parameters': network.layout.num_parameters,
    'seconds_per_client_step': rounded(step),
    'seconds_per_round': rounded(median('time/round_s')),
    'seconds_of_it_clients': rounded(median('time/clients_s')),
    'seconds_of_it_wire': rounded(median('time/wire_s')),
    'gflops': rounded(gflops),
    'matmul_peak_gflops': rounded(peak),
    'share_of_peak': rounded(gflops / peak),
    'compile_s': rounded(first - median('time/round_s')),
    'peak_memory_mib': rounded(
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ),
    'device': f'{len(jax.devices())} x {jax.devices()[0].device_kind}',
    'jax': jax.__version__,
  }


def measure_apart(args, **changes) -> dict:
  """One configuration, in a process of its own."""
  options = vars(args) | changes
  flags = [
    f'--{name}={options[name]}'
    for name in (
      'model',
      'clients',
      'batch',
      'steps',
      'chunk',
      'lowering',
      'repeats',
    )
  ]
  result = subprocess.run(
    [sys.executable, __file__, *flags, '--json=-'],
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(result.stdout.splitlines()[-1])


def show(rows) -> None:
  cells = [COLUMNS, *([str(row[c]) for c in COLUMNS] for row in rows)]
  widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
  for line in cells:
    print('  '.join(c.rjust(w) for c, w in zip(line, widths, strict=True)))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', choices=SHAPES, default='conv6')
  parser.add_argument('--clients', type=int, default=10)
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--steps', type=int, default=3, help='local, a round')
  parser.add_argument('--chunk', type=int, default=1)
  parser.add_argument('--lowering', default='auto')
  parser.add_argument('--repeats', type=int, default=3, help='rounds')
  parser.add_argument('--table', action='store_true')
  parser.add_argument('--json', help='a file; - for standard output')
  args = parser.parse_args()
  allocator.restart_with_huge_pages()
  if args.table:
    rows = [measure_apart(args, **changes) for changes in TABLE]
  else:
    rows = [measure(args)]
  if args.json == '-':
    print(json.dumps(rows[0]))
    return
  show(rows)
  if args.json:
    result = rows if args.table else rows[0]
    pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
  main()
