"""Numbers depend on the configuration alone; what would change them is refused.

Also what a user's terminal, folder or file system may do to a run.
"""

import os
import signal
import subprocess
import time

import pytest
from whole_runs import ROOT, command, outcome, small

import fedpm_jax as fp
from fedpm_jax.system import lock


def _run(workdir, *, prefix=(), timeout=120, **environment):
  return subprocess.run(
    [*prefix, *command(workdir)],
    cwd=ROOT,
    env=os.environ | environment,
    capture_output=True,
    timeout=timeout,
  )


@pytest.mark.parametrize(
  ('environment', 'message'),
  [
    ({'JAX_ENABLE_X64': '1'}, b'jax_enable_x64 = True changes the numbers'),
    (
      {'JAX_DEFAULT_MATMUL_PRECISION': 'bfloat16'},
      b"jax_default_matmul_precision = 'bfloat16' changes the numbers",
    ),
    (
      {'XLA_FLAGS': '--xla_cpu_enable_fast_math=true'},
      b'XLA_FLAGS holds xla_cpu_enable_fast_math',
    ),
    ({'JAX_PLATFORMS': 'cuda'}, b'no device with JAX_PLATFORMS=cuda'),
    ({'JAX_PLATFORMS': 'nonsense'}, b'no device with JAX_PLATFORMS=nonsense'),
  ],
)
def test_an_environment_that_changes_numbers_is_refused_in_a_line(
  tmp_path, environment, message
):
  run = _run(tmp_path / 'run', **environment)
  assert run.returncode == 1
  assert run.stderr.startswith(b'error: ')
  assert message in run.stderr
  assert len(run.stderr.splitlines()) == 1
  assert not (tmp_path / 'run').exists()


ODD = 'größe $5_vs_$6 \x1b[31m <b>|\n2 日本'


def test_devices_letters_and_names_change_nothing(whole, tmp_path):
  """Three devices, a terminal of ASCII, a folder whose name has everything."""
  run = _run(
    tmp_path / ODD,
    XLA_FLAGS=f'{os.environ["XLA_FLAGS"]}'
    ' --xla_force_host_platform_device_count=3',
    PYTHONIOENCODING='ascii',
    LC_ALL='C',
  )
  assert run.returncode == 0, run.stderr
  assert run.stderr == b''
  assert outcome(tmp_path / ODD) == outcome(whole[0])
  assert b'3 x cpu' in (tmp_path / ODD / 'starts.jsonl').read_bytes()
  assert b'\x1b' not in run.stdout
  assert b'gr\\xf6\\xdfe $5_vs_$6 ' in run.stdout


def test_a_name_that_is_no_text_is_refused_in_a_line(tmp_path):
  run = _run(tmp_path / os.fsdecode(b'run\xff'))
  assert run.returncode == 1
  (line,) = run.stderr.decode().splitlines()
  assert line.startswith('error: A --workdir must be text in UTF-8, got')
  assert not list(tmp_path.iterdir())


def test_one_core_computes_what_two_compute(whole, tmp_path):
  if not hasattr(os, 'sched_setaffinity'):
    pytest.skip('Only Linux gives a process some of the cores.')
  core = min(os.sched_getaffinity(0))
  _run(tmp_path / 'run', prefix=['taskset', '-c', str(core)])
  assert outcome(tmp_path / 'run') == outcome(whole[0])
  assert b'1 x cpu' in (tmp_path / 'run' / 'starts.jsonl').read_bytes()


def test_a_second_start_is_refused_and_loses_nothing(whole, tmp_path):
  workdir = tmp_path / 'run'
  with subprocess.Popen(command(workdir), cwd=ROOT) as first:
    path = workdir / lock.NAME
    while not (path.exists() and path.read_bytes()):  # until its pid is there
      time.sleep(0.01)
      assert first.poll() is None
    first.send_signal(signal.SIGSTOP)  # The second one has all the time.
    second = _run(workdir)
    first.send_signal(signal.SIGCONT)
  assert first.returncode == 0
  assert second.returncode == 1
  assert len(second.stderr.splitlines()) == 1
  assert f'is in use: process {first.pid} writes to it' in str(second.stderr)
  assert outcome(workdir) == outcome(whole[0])


def test_a_full_disk_is_one_line_and_loses_nothing(whole, tmp_path):
  """Files may grow to 60 kB, which no checkpoint's arrays fit in."""
  workdir = tmp_path / 'run'
  limited = ['bash', '-c', 'ulimit -f 60; exec "$@"', 'bash']
  # Programs that are compiled anew would find no room either.
  run = _run(workdir, prefix=limited, JAX_ENABLE_COMPILATION_CACHE='0')
  assert run.returncode == 1
  (line,) = run.stderr.decode().splitlines()
  assert 'checkpoints could not be written (File too large)' in line
  assert not list((workdir / 'checkpoints').glob('[0-9]*'))
  fp.train(small(), workdir)
  assert outcome(workdir) == outcome(whole[0])
  assert {p.name for p in workdir.rglob('.*')} == {lock.NAME}


@pytest.mark.parametrize('inner', ['', 'checkpoints'])
def test_a_file_in_place_of_a_folder_is_one_line_at_once(tmp_path, inner):
  workdir = tmp_path / 'run'
  file = workdir / inner
  file.parent.mkdir(exist_ok=True)
  file.touch()
  started = time.monotonic()
  run = _run(workdir)
  assert time.monotonic() - started < 30
  assert run.returncode == 1
  assert run.stderr.decode().splitlines() == [
    f'error: {file} is a file, and a folder is needed: move it away.'
    ' (FEDPM_TRACEBACK=1 shows where)'
  ]


HEX = '0123456789abcdef' * 2  # of a temporary name


def test_what_killed_processes_left_behind_is_removed(whole, tmp_path):
  workdir = tmp_path / 'run'
  (workdir / 'symbols').mkdir(parents=True)
  (workdir / 'checkpoints' / f'.2.{HEX}.tmp' / 'state').mkdir(parents=True)
  (workdir / f'.config.json.{HEX}.tmp').touch()
  (workdir / 'symbols' / f'.round_00009.npz.{HEX}.tmp').touch()
  fp.train(small(), workdir)
  left = {p.name for p in workdir.rglob('.*')}
  assert left == {lock.NAME}
  assert outcome(workdir) == outcome(whole[0])


def test_other_files_are_left_alone(tmp_path):
  """A run may be started in the folder of all runs, or at home."""
  others = [f'another/run/.config.json.{HEX}.tmp', '.editor.tmp', '.x.y.tmp']
  for name in others:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  fp.train(small(rounds=1), tmp_path)
  for name in others:
    assert (tmp_path / name).exists()


def test_a_terminal_that_is_gone_stops_no_run(whole, tmp_path):
  workdir = tmp_path / 'run'
  process = subprocess.Popen(
    command(workdir),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  for stream in (process.stdout, process.stderr):
    stream.close()
  process.wait()
  assert outcome(workdir) == outcome(whole[0])
