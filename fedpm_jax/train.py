"""One run: `python -m fedpm_jax.train --config=digits --config.rounds=10`.

    --config=NAME          digits (default), any file in configs/ by name, or *.py;
                           methods:drive gives the file an argument
    --config.KEY=VALUE     changes a key, in any order; --list shows all of them
    --workdir=FOLDER       where to write; runs/<config> by default
    --list                 prints every key with type, value and meaning
    --distributed          on several hosts, which SLURM, Open MPI or Cloud TPU
                           started with this same command; or, anywhere,
    --coordinator=ADDRESS:PORT --num_hosts=N --host=I

A second start of the same command continues where the first one was, even after
`kill -9`.  Ctrl-C and SIGTERM let the round end and write a checkpoint.
"""

from fedpm_jax.system import allocator

if __name__ == '__main__':
  allocator.restart_with_huge_pages()

import pathlib
import sys
import traceback
import types
from typing import Any

from fedpm_jax import cli

FLAGS = cli.Flags(
  config='digits',
  workdir='',
  list=False,
  distributed=False,
  coordinator='',
  num_hosts=0,
  host=-1,
)


def main(argv: list[str] | None = None) -> None:
  """Runs, or continues, an experiment; a mistake of the user is one line."""
  cli.guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> None:
  arguments = cli.parse(argv, FLAGS, __doc__)
  if arguments.flags['list']:
    print(cli.list_of_keys(cli.configuration(arguments).config))
    return
  # Heavy imports wait until the flags are right.
  from fedpm_jax.experiments import leading, run
  from fedpm_jax.system import hosts, machine

  machine.keep_compiled_programs()
  loaded = cli.configuration(arguments)
  flags = arguments.flags
  who = flags['coordinator'], flags['num_hosts'], flags['host']
  is_shared = flags['distributed'] or who != ('', 0, -1)
  if is_shared:
    hosts.join(*who)
  workdir = flags['workdir'] or pathlib.Path('runs') / loaded.name
  with cli.Interruptible() as interrupted:
    try:
      run.train(
        loaded.config,
        workdir,
        verbose=True,
        stop=interrupted.is_set,
        **loaded.parts(),
      )
    except leading.Stopped as stopped:
      print(f'\n{stopped}', file=sys.stderr)
      sys.exit(interrupted.exit_code())
    except KeyboardInterrupt:
      if is_shared:
        hosts.leave('Stopped; the same command continues.', 130)
      raise
    except Exception as error:
      if is_shared:
        hosts.leave(cli.line(error) or traceback.format_exc(), 1)
      raise


class _Program(types.ModuleType):
  """This module, which is also called like the function `fedpm_jax.train`.

  Importing a module makes it an attribute of its package.  Whoever imports this
  program and then calls `fedpm_jax.train(...)` means the function all the same.
  """

  def __call__(self, *args: Any, **options: Any) -> dict[str, Any]:
    from fedpm_jax.experiments import run

    return run.train(*args, **options)


sys.modules[__name__].__class__ = _Program

if __name__ == '__main__':
  main()
