"""Several hosts compute what one computes, also where one of them dies."""

import json
import os
import pathlib
import re
import signal
import sys
import time

import numpy as np
import pytest
import several_hosts
from hosts_runs import RUNS, run
from whole_runs import command, outcome, small

import fedpm_jax as fp
from fedpm_jax.experiments import checkpoint
from fedpm_jax.system import lock

WORKER = pathlib.Path(__file__).with_name('hosts_runs.py')
RUN = {
  'rounds': 20,
  'num_clients': 5,
  'clients_per_round': 4,
  'model': 'lenet',
}


@pytest.fixture(scope='module')
def shared():
  """Some runs, computed by two hosts: what each of them found."""
  folders = ('tests', 'tests/experiments')
  paths = os.pathsep.join(str(several_hosts.ROOT / name) for name in folders)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', paths)
    started = several_hosts.start([sys.executable, str(WORKER)], 2)
    ended = several_hosts.finish(started)
  for code, _, errors in ended:
    assert code == 0, errors
  return [json.loads(output.splitlines()[-1]) for _, output, _ in ended]


def test_two_hosts_compute_what_one_computes(shared):
  """Rows, states, masks kept and the model, to the bit.

  The one has the training set on its device, the two bring what a turn needs.
  """
  alone = run(RUNS['masks'] | {'execution.examples': 'all'})
  assert 0 < alone['exact'][0][0]['robust/left_out'] < 5
  for found in shared:
    assert found['masks']['exact'] == alone['exact']
    np.testing.assert_allclose(found['masks']['floats'][0], alone['floats'][0])


def test_floats_are_added_up_in_another_order(shared):
  """Hosts agree to the bit; with one host they agree to rounding."""
  first, second = (found['floats'] for found in shared)
  assert first == second
  alone = run(RUNS['floats'])['floats']
  for found, expected in zip(first['floats'], alone, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_followers_end_where_host_0_cannot_start(tmp_path):
  with lock.locked(tmp_path / 'run'):
    two = several_hosts.start(command(tmp_path / 'run', **RUN), 2)
    (leads, _, locked), (follows, _, told) = several_hosts.finish(two)
  assert (leads, follows) == (1, 1)
  assert f'{tmp_path}/run is in use: process ' in locked
  assert told.startswith('error: Host 0 ended with LockedError: ')


def test_two_hosts_stop_together_and_one_goes_on(tmp_path):
  _ends_as_alone(tmp_path)


@pytest.mark.slow
def test_one_of_four_is_killed_and_two_go_on(tmp_path):
  folder = tmp_path / 'run'
  four = several_hosts.start(command(folder, **RUN), 4)
  _wait(folder, 1, four[2])
  four[2].kill()
  ended = several_hosts.finish(four)
  for index in (0, 1, 3):
    code, _, errors = ended[index]
    assert code == 1
    line = errors.splitlines()[-1]
    assert line.startswith('error: Another host is gone; its own log says why.')
  _ends_as_alone(tmp_path)


def _ends_as_alone(tmp_path):
  """Two hosts go on until one of them is asked to stop; then one goes on."""
  folder, before = tmp_path / 'run', checkpoint.newest(tmp_path / 'run')
  two = several_hosts.start(command(folder, **RUN), 2)
  _wait(folder, before + 1, two[1])
  two[1].terminate()
  for code, _, errors in several_hosts.finish(two):
    assert code == 128 + signal.SIGTERM
    assert re.search(
      r'^Stopped after round \d+; the same command', errors, re.M
    )
  assert before < checkpoint.newest(folder) < RUN['rounds']

  fp.train(small(**RUN), folder)
  fp.train(small(**RUN), tmp_path / 'alone')
  found, expected = outcome(folder), outcome(tmp_path / 'alone')
  for row in (*found[0], *expected[0]):  # It is a sum of floats.
    for name in [name for name in row if name.startswith('eval/loss')]:
      del row[name]
  assert found == expected


def _wait(folder, rounds, process):
  """Waits for a checkpoint, while a process is alive."""
  while checkpoint.newest(folder) < rounds:
    assert process.poll() is None, process.communicate()
    time.sleep(0.02)
