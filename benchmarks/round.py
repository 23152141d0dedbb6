"""How fast a round is, and what share of the machine's matrix peak it reaches.

    python benchmarks/round.py --model conv6 --clients 10 --batch 128 --json FILE
    python benchmarks/round.py --table cpu [--json FILE]
    python benchmarks/round.py --table gpu [--json FILE]
    python benchmarks/round.py --table cohort [--json FILE]

One configuration, or a table: every lowering for CONV-4, 6 and 10 with 2, 10 and
50 clients (cpu), lowering x chunk x type for CONV-6 and 10 (gpu), or cohorts of
100 to 1,000 clients (cohort).  Every row is a process of its own, so that peak
memory is its own; one that takes longer than --limit is reported as such.
Random images in the shape of the paper's data set for that network.

GFLOP/s count a plain convolution's multiplications and additions, forward and
twice that backward, whatever the lowering does; the peak is that of square
matrix products of the same type, on all devices at once, in the same process.
Times are medians over rounds.  All clients train in one turn, so that `clients_s`
is training, with the broadcast's coding beside it; `rest_s` is the rest of the
round: the messages behind it, and the aggregation.  `wire_s` is the CPU time of
coding the messages and the broadcast, in threads side by side.
`first_round_s` is what the first round takes longer, mostly compilation.  With
--training nothing but local training runs, which is soon done.
"""

import argparse
import itertools
import json
import math
import pathlib
import resource
import subprocess
import sys
import time

import engines

from fedpm_jax.system import allocator

OPTIONS = ('model', 'clients', 'batch', 'steps', 'chunk', 'lowering', 'dtype')


def _rows(**choices):
  """All combinations; a choice is a tuple of values."""
  values = itertools.product(*choices.values())
  return [dict(zip(choices, row, strict=True)) for row in values]


TABLES = {
  'cpu': _rows(
    model=('conv4', 'conv6', 'conv10'),
    clients=(2, 10, 50),
    lowering=('winograd', 'im2col', 'lax'),
    steps=(1,),
  ),
  'gpu': _rows(
    model=('conv6', 'conv10'),
    lowering=('mixed', 'lax', 'im2col'),
    chunk=(1, 2, 5, 10),
    dtype=('bfloat16', 'float32'),
    steps=(20,),
  ),
  'cohort': _rows(
    model=('conv4',),
    batch=(16,),
    steps=(1,),
    clients=(100, 200, 400, 1000),
  ),
}
COLUMNS = (
  *('model', 'clients', 'lowering', 'chunk', 'dtype'),
  *('seconds_per_client_step', 'seconds_per_round'),
  *('clients_s', 'rest_s', 'wire_s', 'evaluate_1000_s', 'first_round_s'),
  *('gflops', 'share_of_peak', 'peak_memory_mib'),
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


def matmul_peak(dtype) -> float:
  """GFLOP/s of square matrix products, on all devices at once."""
  import jax

  devices = jax.devices()
  # A GPU is kept waiting between products that are not in a row.
  size, in_a_row = (2048, 1) if devices[0].platform == 'cpu' else (8192, 10)
  # Of ones it would be another time: a processor's clock depends on the bits.
  matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
  matrices = [jax.device_put(matrix, device) for device in devices]
  product = jax.jit(lambda a: a @ a)
  time_of_all = seconds(lambda: [product(m) for m in in_a_row * matrices], 7)
  return in_a_row * len(devices) * 2 * size**3 / time_of_all / 1e9


def evaluation(engine, state) -> float:
  """Seconds for 1,000 test images and all three networks."""
  import jax
  import numpy as np

  from fedpm_jax.prng import keys
  from fedpm_jax.simulation import evaluate

  test = evaluate.padded(
    np.asarray(engine.data[0][:1000]),
    np.asarray(engine.data[1][:1000]),
    batch_size=250,
    shards=engine.mesh.size,
  )
  function = evaluate.make_evaluate(
    engine.method.network, engine.method.algorithm.eval_params, engine.mesh
  )
  key = keys.derive(0, keys.Purpose.EVALUATE, client=np.arange(1))
  test = jax.device_put(test)
  took = seconds(lambda: function(state.server, key, *test), 3)
  return took * 1000 / min(1000, len(engine.data[1]))


def measure(args) -> dict:
  """One configuration, in this process."""
  import jax

  engine, cohort = engines.build(
    args.model,
    clients=args.clients,
    batch=args.batch,
    steps=args.steps,
    chunk=args.chunk,
    turn=args.clients,
    lowering=args.lowering,
    dtype=args.dtype,
  )
  parts = training if args.training else rounds
  figures = parts(engine, cohort, args.repeats)
  step = figures['clients_s'] / (args.clients * args.steps)
  work = flops_of_step(
    engine.method.network.layout, engine.data[0].shape[1:], args.batch
  )
  gflops, peak = work / step / 1e9, matmul_peak(args.dtype)
  figures |= {
    'seconds_per_client_step': step,
    'gflops': gflops,
    'matmul_peak_gflops': peak,
    'share_of_peak': gflops / peak,
  }
  memory = jax.devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' in memory:
    figures['device_memory_mib'] = memory['peak_bytes_in_use'] / 2**20
  return {
    **{name: getattr(args, name) for name in OPTIONS},
    'parameters': engine.method.network.layout.num_parameters,
    **{name: float(f'{value:.4g}') for name, value in figures.items()},
    'device': f'{len(jax.devices())} x {jax.devices()[0].device_kind}',
    'jax': jax.__version__,
  }


def training(engine, cohort, repeats) -> dict:
  """Seconds of the cohort's local training, in one turn."""
  train = engines.training(engine, cohort)
  start = time.perf_counter()
  train()
  first = time.perf_counter() - start
  clients = seconds(train, repeats)
  return {
    'clients_s': clients,
    'first_round_s': first - clients,
    'peak_memory_mib': peak_memory_mib(),
  }


def rounds(engine, cohort, repeats) -> dict:
  """Seconds of whole rounds and their parts."""
  import numpy as np

  state = engine.init()
  start = time.perf_counter()
  state, _, foreseen, _ = engine.run(state, cohort, 0)
  first = time.perf_counter() - start
  rows = []
  # The second round compiles what the first one had no need of.
  for round_idx in range(1, repeats + 2):
    state, row, foreseen, _ = engine.run(
      state, cohort, round_idx, foreseen=foreseen
    )
    rows.append(row)
  median = lambda name: float(np.median([row[name] for row in rows[1:]]))
  round_s = median('time/round_s')
  peak_memory = peak_memory_mib()  # of training, not of the evaluation
  return {
    'seconds_per_round': round_s,
    'clients_s': median('time/clients_s'),
    'rest_s': round_s - median('time/clients_s'),
    'wire_s': median('time/wire_s'),
    'evaluate_1000_s': evaluation(engine, state),
    'first_round_s': first - round_s,
    'peak_memory_mib': peak_memory,
  }


def peak_memory_mib() -> float:
  """Of this process, until now."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_apart(args, changes) -> dict:
  """One configuration, in a process of its own."""
  options = vars(args) | changes
  flags = [f'--{name}={options[name]}' for name in (*OPTIONS, 'repeats')]
  flags += ['--training'] * args.training
  try:
    result = subprocess.run(
      [sys.executable, __file__, *flags, '--json=-'],
      capture_output=True,
      text=True,
      timeout=args.limit,
    )
  except subprocess.TimeoutExpired:
    problem = f'more than {args.limit} s for {args.repeats + 2} rounds'
  else:
    if result.returncode == 0:
      return json.loads(result.stdout.splitlines()[-1])
    lines = result.stderr.strip().splitlines()
    problem = lines[-1][:200] if lines else f'ended with {result.returncode}'
  return {name: options[name] for name in OPTIONS} | {'problem': problem}


def show(row) -> None:
  """One line of the table."""
  known = [name for name in COLUMNS if name in row]
  cells = [f'{row[name]!s:>{len(name)}}' for name in known]
  print('  '.join([*cells, row.get('problem', '')]), flush=True)


def save(path, result) -> None:
  """After every row: a table takes long."""
  if path:
    pathlib.Path(path).write_text(json.dumps(result, indent=2) + '\n')


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', choices=engines.SHAPES, default='conv6')
  parser.add_argument('--clients', type=int, default=10)
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--steps', type=int, default=3, help='local, a round')
  parser.add_argument('--chunk', type=int, default=1)
  parser.add_argument('--lowering', default='auto')
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--repeats', type=int, default=3, help='rounds')
  parser.add_argument('--training', action='store_true', help='and no wire')
  parser.add_argument('--table', choices=TABLES)
  parser.add_argument('--only', nargs='*', default=[], metavar='NAME=VALUE')
  parser.add_argument('--limit', type=int, default=600, help='seconds a row')
  parser.add_argument('--json', help='a file; - for standard output')
  args = parser.parse_args()
  allocator.restart_with_huge_pages()
  if args.table is None:
    rows = [measure(args)]
    if args.json == '-':
      print(json.dumps(rows[0]))
      return
  wanted = dict(text.split('=') for text in args.only)
  print('  '.join(COLUMNS))
  if args.table:
    rows = []
    for changes in TABLES[args.table]:
      if all(str(changes.get(name)) == wanted[name] for name in wanted):
        rows.append(measure_apart(args, changes))
        show(rows[-1])
        save(args.json, rows)
  else:
    show(rows[0])
    save(args.json, rows[0])


if __name__ == '__main__':
  main()
