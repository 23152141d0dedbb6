"""The benchmarks run, and their arithmetic is right; no figure is tested."""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
BENCHMARKS = ROOT / 'benchmarks'


def run(*arguments, **options):
  return subprocess.run(
    [sys.executable, *map(str, arguments)],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
    **options,
  )


@pytest.fixture
def benchmarks(monkeypatch):
  monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_round_reports_what_it_promises():
  flags = '--model=conv2 --clients=2 --batch=2 --steps=1 --repeats=1 --json=-'
  result = run(BENCHMARKS / 'round.py', *flags.split())
  row = json.loads(result.stdout)
  assert (row['model'], row['clients'], row['batch']) == ('conv2', 2, 2)
  for name in (
    *('seconds_per_client_step', 'seconds_per_round', 'gflops'),
    *('matmul_peak_gflops', 'share_of_peak', 'peak_memory_mib'),
    *('clients_s', 'rest_s', 'wire_s', 'evaluate_1000_s', 'first_round_s'),
  ):
    assert row[name] > 0, name


def test_round_can_measure_training_alone():
  flags = '--model=conv2 --clients=2 --batch=2 --steps=1 --repeats=1 --json=-'
  result = run(BENCHMARKS / 'round.py', *flags.split(), '--training')
  row = json.loads(result.stdout)
  for name in ('seconds_per_client_step', 'share_of_peak', 'first_round_s'):
    assert row[name] > 0, name
  assert 'seconds_per_round' not in row


def test_arithmetic_of_a_step_is_that_of_the_paper(benchmarks):
  """CONV-6, batch 128: 118 GFLOP, by hand."""
  import engines
  import round as rounds

  from fedpm_jax.models import network as networks

  shape, classes = engines.SHAPES['conv6']
  spec = networks.Spec('conv6', shape, classes, 0, 'signed_constant', 1.0)
  layout = networks.build(spec).layout
  pixels = {32: 3 * 64 + 64 * 64, 16: 64 * 128 + 128**2, 8: 128 * 256 + 256**2}
  products = sum(9 * side**2 * pairs for side, pairs in pixels.items())
  products += 4096 * 256 + 256 * 256 + 256 * 10
  expected = 2 * 3 * 128 * products
  assert rounds.flops_of_step(layout, shape, 128) == expected
  assert expected == pytest.approx(118e9, rel=0.01)


@pytest.mark.parametrize('peer', ['official', 'fedjax', 'flower', 'pfl'])
def test_a_missing_peer_says_how_to_get_it(peer):
  task = {'checkout': None, 'what': 'round', 'image_shape': [32, 32, 3]}
  # Without site-packages nothing is installed.
  worker = BENCHMARKS / 'workers' / f'{peer}.py'
  result = run('-S', worker, json.dumps(task), env={})
  assert 'pip install' in json.loads(result.stdout)['missing']


COUNTING = f"""
import sys; sys.path.insert(0, {str(BENCHMARKS / 'workers')!r})
import protocol
count = iter(range(9))
def once():
  print('noise')
  return next(count) or None
protocol.serve(once)
"""


def test_processes_take_turns(tmp_path):
  worker = tmp_path / 'worker.py'
  worker.write_text(COUNTING)
  answers = run(worker, '{}', input='run\n' * 3).stdout.splitlines()
  assert answers[0] == 'ready'
  assert 0 < float(answers[1]) < 1  # measured
  assert answers[2:] == ['1', '2']


def test_who_waits_is_stopped_with_what_it_has_started(
  benchmarks, tmp_path, monkeypatch
):
  import peers

  worker = tmp_path / 'ours.py'
  daemon = f"subprocess.Popen([{sys.executable!r}, '-c', 'input()'], stdin=-1)"
  worker.write_text(f'import subprocess; {daemon}\n{COUNTING}')
  monkeypatch.setattr(peers, 'WORKERS', tmp_path)
  contender = peers.Contender(peers.OURS, {'clients': 1}, sys.executable)
  both = peers.family([contender._processes[0].pid])
  assert len(both) == 2

  def states():
    command = ['ps', '-o', 'stat=', '-p', ','.join(map(str, both))]
    return [
      line[0]
      for line in subprocess.run(command, stdout=-1).stdout.decode().split()
    ]

  contender.stop()
  deadline = time.monotonic() + 20
  while states() != ['T', 'T']:
    assert time.monotonic() < deadline
    time.sleep(0.05)
  contender.go_on()
  assert 'T' not in states()
  contender.run(count=True)
  contender.stop()
  contender.close()  # goes on first: a process that is stopped cannot end
  # What it has started ends with it, whoever takes notice of that.
  while set(states()) - {'Z'}:
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_the_first_run_of_a_turn_does_not_count(
  benchmarks, tmp_path, monkeypatch
):
  import peers

  (tmp_path / 'ours.py').write_text(COUNTING)
  task = {'what': 'round', 'model': 'cnn', 'clients': 1, 'steps': 1}
  monkeypatch.setattr(peers, 'WORKERS', tmp_path)
  monkeypatch.setattr(peers, 'TASKS', {'toy': (task, (peers.OURS,))})
  args = argparse.Namespace(official=None, python=sys.executable, repeats=2)
  (row,) = peers.compare('toy', args)['rows']
  # 0, 1, 2 seconds in the first turn, 3, 4, 5 in the second.
  assert row['seconds_per_round'] == 3.0
  assert (row['least'], row['most']) == (1.0, 5.0)
