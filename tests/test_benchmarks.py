"""The benchmarks run, and their arithmetic is right; no figure is tested."""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

import fedpm_jax as fp

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


def test_a_mapped_file_takes_less_memory_than_its_images(tmp_path):
  flags = ['--gigabytes=0.1', '--rounds=3', '--repeats=1']
  table = tmp_path / 'table.json'
  run(
    BENCHMARKS / 'large_data.py', *flags, '--folder', tmp_path, '--json', table
  )
  found = json.loads(table.read_text())
  assert found['all']['clients'] == found['cohort']['clients'] == 325
  assert min(found['cohort'][key] for key in ('start_s', 'round_s')) > 0
  # 100 MB of images, of which a round needs 31.  What is compiled is the rest.
  assert found['all']['held_mb'] - found['cohort']['held_mb'] > 50
  assert list(tmp_path.iterdir()) == [table]


def test_populations_are_measured_one_after_another(tmp_path):
  flags = '--clients=12,20 --rounds=3 --model=lenet'
  table = tmp_path / 'table.json'
  run(BENCHMARKS / 'populations.py', *flags.split(), '--json', table)
  rows = json.loads(table.read_text())['table']
  assert [row['clients'] for row in rows] == [12, 20]
  for row in rows:
    assert min(row['start_s'], row['round_s']) > 0
    assert 50 < row['memory_mb'] < 5000
  assert table.with_suffix('.png').read_bytes().startswith(b'\x89PNG')


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


def test_parity_figures_are_those_of_plain_loops(benchmarks, monkeypatch):
  monkeypatch.syspath_prepend(str(BENCHMARKS / 'workers'))
  import parity_figures

  before = np.array([0.5, 0.25, 0.9])
  masks = np.array([[True, False, True], [True, True, True]])
  row = parity_figures.row(before, masks, np.array([0.1, 0.4, 0.7]))
  bits, ones = [], []
  for mask in masks.tolist():
    of_bits = [
      -math.log2(p if bit else 1 - p)
      for p, bit in zip(before.tolist(), mask, strict=True)
    ]
    bits.append(sum(of_bits) / 3)
    ones.append(min(sum(mask) / 3, 1 - 1e-12))
  entropies = [-p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in ones]
  assert row == pytest.approx(
    {
      'theta_mean': 0.4,
      'theta_spread': math.sqrt(0.06),
      'bpp_frequency': sum(entropies) / 2,
      'bpp_prior': sum(bits) / 2,
    }
  )


def test_parity_is_told_in_standard_errors(benchmarks):
  import parity

  # Means 2 and 5, variances 1 and 4, three seeds each.
  difference, error = parity.compare([1, 2, 3], [3, 5, 7])
  assert difference == -3
  assert error == pytest.approx(math.sqrt(1 / 3 + 4 / 3))
  row = lambda x: dict.fromkeys(parity.FIGURES, x)
  runs = {
    'ours': [[row(0), row(0), row(x)] for x in (1, 2, 3)],
    'theirs': [[row(0), row(0), row(x)] for x in (3, 5, 7)],
  }
  *_, third, last = parity.table(runs).splitlines()
  cells = third.split(' | ')[1:4]
  assert cells == ['2.0000 +- 1.0000', '5.0000 +- 2.0000', '-2.3']
  assert last.split(' | ')[1:4] == cells


def test_parity_takes_our_figures_from_the_round_itself(benchmarks):
  import parity

  config = fp.config()
  config.update_from_flattened_dict(
    {
      'num_clients': 2,
      'clients_per_round': 2,
      'model': 'cnn',
      'rounds': 1,
      'data.max_examples': 8,
    }
  )
  (row,) = parity.our_rounds(fp.Experiment(config))
  again = fp.Experiment(config)
  metrics = again.run_round().metrics
  assert row['theta_mean'] == pytest.approx(metrics['server/theta_mean'])
  assert row['bpp_frequency'] == pytest.approx(
    metrics['uplink/bpp_entropy'], rel=1e-3
  )
  assert row['accuracy'] == again.evaluate()['eval/accuracy_sampled']


def test_parity_without_the_authors_code_says_how_to_get_it(
  benchmarks, tmp_path
):
  import parity

  arguments = argparse.Namespace(
    official=None, python=sys.executable, threads=0, device='cpu'
  )
  config = fp.config()
  config.data.max_examples = 8
  rounds = parity.their_rounds(fp.Experiment(config), arguments)
  with pytest.raises(SystemExit, match='git clone'):
    next(rounds)


def test_poison_tells_what_a_bound_saves(benchmarks, monkeypatch):
  import poison

  tiny = {'num_clients': 2, 'clients_per_round': 2, 'data.max_examples': 8}
  settings = poison.SETTINGS | tiny | {'model': 'cnn', 'rounds': 1}
  monkeypatch.setattr(poison, 'SETTINGS', settings)
  monkeypatch.setattr(poison, 'CLIENTS', 2)
  monkeypatch.setattr(poison, 'ROUNDS', 1)
  rows = poison.rows_of('iid', 'ones', 0.5, 0, poison.BOUND)
  assert [row['kind'] for row in rows] == list(poison.FAR)
  for row in rows:
    assert (row['poisoned_left_out'], row['honest_left_out']) == (1, 0)
    assert row['poisoned_nearest'] > 0.1
    assert row['honest_farthest'] == 0
  near = poison.rows_of('iid', 'within the bound', 0.5, 0, poison.BOUND)
  # Nobody was left out, so it is the run without the bound, too.
  assert [row['bound'] for row in near] == [poison.BOUND, 0.0]
  assert 0.9 * poison.BOUND < near[0]['poisoned_nearest'] <= poison.BOUND
  cells = [('iid', kind, 0.5) for kind in ('coins', 'within the bound')]
  monkeypatch.setattr(poison, 'CELLS', cells)
  *_, last = poison.table([*rows, *near]).splitlines()
  # Of the coins there is no run without the bound.
  assert last.startswith('| iid | within the bound | 50% | ')
  assert ' | 0 of 1 | 0 of 1 | ' in last


def test_what_privacy_costs_is_told_of_the_last_rounds(benchmarks):
  import privacy

  def run_of(accuracy):
    rows = [{privacy.UP: t, privacy.DOWN: 2.0} for t in range(30)]
    for t in (0, 4, 9, 14, 19, 24, 29):
      right = accuracy + (t - 24) / 100 if t > 14 else 0.0
      rows[t] |= {privacy.SAMPLED: right, privacy.MEAN: right}
    rows[-1][privacy.TOTAL] = 12.345
    return privacy.figures(rows)

  assert run_of(0.5) == pytest.approx(
    {
      privacy.SAMPLED: 0.5,
      privacy.MEAN: 0.5,
      privacy.UP: 24.5,
      privacy.DOWN: 2.0,
      privacy.TOTAL: 12.345,
    }
  )
  line = privacy.line(1.0, [run_of(0.5), run_of(0.7)])
  accuracy = '0.600 +- 0.141'  # sqrt(2 * 0.1^2)
  assert line == (
    f'| 1 | 0.269 | {accuracy} | {accuracy} | 24.5000 +- 0.0000 |'
    ' 2.000 +- 0.000 | 12.35 |'
  )
  plain = privacy.configuration(math.inf, 3, 30, ['fedpm.theta_clip=0.1'])
  assert plain.wire.compressor == 'bernoulli'
  assert (plain.seed, plain.fedpm.theta_clip) == (3, 0.1)
  flipped = privacy.configuration(2.0, 3, 30, [])
  assert flipped.wire.uplink == plain.wire.uplink == 'per_level'
  assert flipped.randomised_response.epsilon == 2.0


def test_ways_of_a_plain_flax_module_are_compared(benchmarks, monkeypatch):
  import own_modules

  tiny = own_modules.Plain((4, 4), (4,))
  monkeypatch.setitem(own_modules.CASES, 'tiny', (tiny, None, (4, 4, 1), 2, 2))
  row = own_modules.measure('tiny', 1)
  assert row['ours_ms'] > 0
  assert row['ours_to_lax'] > 0


def test_flops_of_a_step_are_those_by_hand(benchmarks):
  import own_modules

  module = own_modules.Plain((3, 5), (7,))
  images = np.zeros((2, 8, 6, 4), np.uint8)
  convolutions = 8 * 6 * 9 * (4 * 3 + 3 * 5)
  dense = 4 * 3 * 5 * 7 + 7 * 10  # after a pool
  assert own_modules.flops_of_step(module, images) == (
    3 * 2 * 2 * (convolutions + dense)
  )
