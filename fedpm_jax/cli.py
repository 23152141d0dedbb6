"""What the programs share: flags, errors of one line, signals.

`fedpm train`, `fedpm sweep` and `fedpm report` are the programs of the modules
of these names: `python -m fedpm_jax.train` is the same.
"""

import contextlib
import difflib
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from fedpm_jax.system import allocator, text

if TYPE_CHECKING:
  from fedpm_jax.experiments.config_files import Loaded

PROGRAMS = ('train', 'sweep', 'report')
_USAGE = f"""\
usage: fedpm {{{','.join(PROGRAMS)}}} [--help] [flags]

  train    one run: fedpm train --config=digits
  sweep    many runs: fedpm sweep --config=comparison
  report   tables and pictures of runs: fedpm report --sweep=runs/comparison"""

# A flag's default: its type is that of its values.
Flags = dict[str, Any]


class Arguments(NamedTuple):
  """A command line.

  Attributes:
    flags: every flag of the program; one that may come again is a list.
    overrides: (key, text) of `--config.key=text`, in their order.
    rest: what is no flag.
  """

  flags: Flags
  overrides: list[tuple[str, str]]
  rest: list[str]


def main() -> None:
  """The console script `fedpm`."""
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  if name == '--version':
    from fedpm_jax import __version__

    print(f'fedpm_jax {__version__}')
  elif name in PROGRAMS:
    allocator.restart_with_huge_pages()
    importlib.import_module(f'fedpm_jax.{name}').main(sys.argv[2:])
  else:
    print(_USAGE)
    known = name in ('', '-h', '--help', 'help')
    near = difflib.get_close_matches(name, PROGRAMS, 1)
    hint = f': did you mean {near[0]}?' if near else '.'
    sys.exit(0 if known else f'error: there is no program {name!r}{hint}')


def parse(
  argv: list[str], flags: Flags, documentation: str | None
) -> Arguments:
  """The command line of a program; the order of flags does not matter.

  Args:
    argv: without the program's name.
    flags: every flag with its default.  A flag of type bool needs no value, one
      whose default is a list may come again.
    documentation: what --help prints.

  Raises:
    ValueError: a flag that there is not, or without the value that it needs.
  """
  if {'--help', '-h', '--helpfull'} & {*argv}:
    print(documentation)
    sys.exit(0)
  found = {k: list(v) if isinstance(v, list) else v for k, v in flags.items()}
  overrides, rest, words = [], [], list(argv)
  while words:
    word = words.pop(0)
    if not word.startswith('--'):
      rest.append(word)
      continue
    name, has_value, value = word[2:].partition('=')
    is_switch = isinstance(flags.get(name), bool)
    if not has_value and not is_switch:
      if words and not words[0].startswith('--'):
        value = words.pop(0)
      elif name.startswith('config.'):
        value = 'true'  # A switch of the configuration; else parsing says so.
      else:
        raise ValueError(f'--{name} needs a value: --{name}=...')
    if name.startswith('config.') and 'config' in flags:
      overrides.append((name.removeprefix('config.'), value))
    elif name not in flags:
      meant = {flag: flag for flag in flags} | _keys(flags)
      near = difflib.get_close_matches(name, meant, 1)
      hint = f'did you mean --{meant[near[0]]}? ' if near else ''
      raise ValueError(f'there is no flag --{name}: {hint}--help lists them.')
    elif isinstance(flags[name], list):
      found[name].append(value)
    else:
      on = is_switch and not has_value
      found[name] = True if on else _value(name, value, flags[name])
  return Arguments(found, overrides, rest)


def _keys(flags: Flags) -> dict[str, str]:
  """The flags of the configuration, by their whole names and last words."""
  from fedpm_jax.experiments import config

  if 'config' not in flags:
    return {}
  whole = [f'config.{path}' for path in config.KEYS]
  last_words = {path.rpartition('.')[2]: path for path in whole}
  return last_words | {path: path for path in whole}


def _value(name: str, word: str, default: Any) -> Any:
  """A flag's value, of the type of its default."""
  from fedpm_jax.experiments import options

  try:
    return options.parse(word, type(default))
  except ValueError as error:
    raise ValueError(f'--{name}: {error}.') from error


def nothing_left(arguments: Arguments) -> None:
  """Raises ValueError where words stand that are no flags."""
  if arguments.rest:
    raise ValueError(f'Unexpected arguments: {arguments.rest}; see --help.')


def configuration(arguments: Arguments) -> 'Loaded':
  """The configuration that a command line names, with its changes.

  Raises:
    ValueError: there is no such file, key or value.
  """
  from fedpm_jax.experiments import config, config_files

  nothing_left(arguments)
  loaded = config_files.read(arguments.flags['config'])
  original = loaded.config.copy_and_resolve_references()
  for path, value in arguments.overrides:
    config.override(loaded.config, path, value)
  changed = list(dict.fromkeys(path for path, _ in arguments.overrides))
  for path in changed:
    config.check_used(loaded.config, path)
  name = config_files.name_with_changes(loaded, original, changed)
  return loaded._replace(name=name)


def list_of_keys(configuration: Any) -> str:
  """Every key with type, value and meaning, a line each.

  Args:
    configuration: whose values are shown.
  """
  from fedpm_jax.experiments import config

  lines, section = [], ''
  for path, option in config.every_key().items():
    head = path.partition('.')[0] if path not in config.KEYS else ''
    if head != section:
      lines += ['', f'Options of {head}, where a run uses it:']
      section = head
    value = config.get(configuration, path)
    shown = 'not set' if value is None else repr(value)
    lines.append(
      f'--config.{path:32} {option.kind.__name__:6} {shown:20} {option.meaning}'
    )
  return '\n'.join(lines)


def guarded(program: Callable[[], None]) -> None:
  """Runs a program; what a user can cause is one line, anything else a bug."""
  from absl import logging

  from fedpm_jax.codecs.base import WireError

  logging.set_verbosity(logging.WARNING)
  _open_closed_streams()
  for stream in (sys.stdout, sys.stderr):
    # A terminal that knows no 'ö' gets an escape, and no exception.
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')
  try:
    program()
    sys.stdout.flush()
  except BrokenPipeError:  # Somebody reads no further: `... | head`.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)
  except WireError:  # In a simulation no user can cause it.
    raise
  except KeyboardInterrupt:
    print('Stopped; the same command continues.', file=sys.stderr)
    sys.exit(128 + signal.SIGINT)
  except Exception as error:
    told = line(error)
    if told is None:
      raise
    sys.exit(told)


def _open_closed_streams() -> None:
  """Gives a process that was started without output (`>&-`) an empty one.

  Else the next files to be opened would have the numbers 0 to 2, and messages
  for the terminal would be written into them.
  """
  while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
    pass
  os.close(number)
  for name in ('stdout', 'stderr'):
    if getattr(sys, name) is None:
      empty = open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115
      setattr(sys, name, empty)


def line(error: Exception) -> str | None:
  """The one line of an error that a user can cause; None for a bug."""
  if os.environ.get('FEDPM_TRACEBACK') or (told := _told(error)) is None:
    return None
  return f'error: {text.printable(told)} (FEDPM_TRACEBACK=1 shows where)'


def _told(error: Exception) -> str | None:
  """What to say of it."""
  from fedpm_jax.experiments import memory
  from fedpm_jax.system.hosts import HostFailed

  reason = str(error).strip().partition('\n')[0].rstrip('.')
  if memory.EXHAUSTED in str(error):
    told = memory.told(error)
    return f'There is not enough memory. The device says: {reason}. {told}'
  if isinstance(error, MemoryError):
    return (
      "There is not enough memory. It is the machine's, not the device's"
      f' ({reason or "no more is known"}). Less of it is needed with a smaller'
      ' config.data.max_examples or config.clients_per_round.'
    )
  if isinstance(error, FileExistsError):
    return f'{error.filename} is a file, and a folder is needed: move it away.'
  if isinstance(error, OSError) and error.filename and error.strerror:
    return f'{error.filename}: {error.strerror}.'
  if isinstance(error, ValueError | OSError | FloatingPointError | HostFailed):
    return str(error)
  return None


class Interruptible:
  """Notes down SIGTERM and Ctrl-C, so that a round can end first.

  A second Ctrl-C does not wait.

  Attributes:
    signal: the one that came, or None.
  """

  def __init__(self):
    """Nothing is caught before `with`."""
    self.signal: int | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> 'Interruptible':
    for number in (signal.SIGTERM, signal.SIGINT):
      self._previous[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def is_set(self) -> bool:
    """Whether one of them has come."""
    return self.signal is not None

  def exit_code(self) -> int:
    """What a shell expects of a process that a signal ended."""
    # Without a signal, another host of the run was asked to stop.
    return 128 + (self.signal or signal.SIGTERM)

  def _receive(self, number: int, _: object) -> None:
    if number == signal.SIGINT:
      if self.signal == number:
        raise KeyboardInterrupt
      # Not `print`, which may be what the signal has interrupted.
      with contextlib.suppress(OSError):
        os.write(2, b'\nThe round ends first; Ctrl-C again does not wait.\n')
    self.signal = number
