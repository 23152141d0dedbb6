"""fedpm_jax, the default settings of its program."""

import pathlib
import sys

import protocol

sys.path[:0] = [str(pathlib.Path(__file__).parents[i]) for i in (1, 2)]


def main() -> None:
  import engines

  task = protocol.task()
  engine, cohort = engines.build(
    task['model'],
    clients=task['clients'],
    batch=task['batch'],
    steps=task['steps'],
    method=task.get('method', 'fedpm'),
    dtype=task.get('dtype', 'float32'),
  )
  state, foreseen, round_idx = engine.init(), None, 0

  def run():
    nonlocal state, foreseen, round_idx
    state, row, foreseen, _ = engine.run(
      state, cohort, round_idx, foreseen=foreseen
    )
    round_idx += 1
    return row['time/clients_s'] if task['what'] == 'steps' else None

  run()
  run()  # The second round compiles what the first one had no need of.
  protocol.serve(run)


if __name__ == '__main__':
  main()
