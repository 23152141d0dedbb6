"""What hosts tell each other, with three processes on this machine."""

import json
import pathlib
import sys

import numpy as np
import pytest
import several_hosts
from hosts_worker import FLOATS

from fedpm_jax.system import hosts as hosts_

WORKER = [
  sys.executable,
  str(pathlib.Path(__file__).with_name('hosts_worker.py')),
]
COUNT = 3


@pytest.fixture(scope='module')
def told():
  """What each of three processes found, the last of which then dies."""
  paths = f'{several_hosts.ROOT / "tests"}'
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', paths)
    ended = several_hosts.finish(
      several_hosts.start([*WORKER, '--dies'], COUNT)
    )
  return [
    (code, json.loads(output.splitlines()[-1]), errors)
    for code, output, errors in ended
  ]


def test_all_hear_the_same(told):
  for index, (_, found, _) in enumerate(told):
    assert found['who'] == [index, COUNT, index == 0]
    assert found['sum'] == [7] * 3
    assert found['rows'] == [list(range(7)), 'int16', [7, 2, 0]]
    assert found['nothing'] == []
    assert found['gather'] == ['', 'x' * 5, 'x' * 10]


def test_a_copy_is_that_of_host_0_to_the_bit(told):
  for _, found, _ in told:
    assert found['copy'] == [FLOATS.tobytes().hex(), 0]


def test_what_must_be_the_same_is_checked(told):
  for _, found, _ in told:
    assert found['check'] == 'Host 2 has another theta than host 0. Do this.'


def test_all_end_where_one_fails(told):
  for index, (_, found, _) in enumerate(told):
    assert found['FloatingPointError'] == 'FloatingPointError: loss'
    of_others = "HostFailed: Host 1 ended with KeyError: 'k'"
    assert found['KeyError'] == ("KeyError: 'k'" if index == 1 else of_others)
    assert [found['ended before'], found['ended']] == [False, True]


def test_a_host_that_dies_is_missed_at_once(told):
  """Three exit codes; nobody waits for the missing one."""
  assert [code for code, *_ in told] == [7, 7, 9]
  for _, _, errors in told[:2]:
    assert errors.splitlines()[-1].startswith(
      'Another host is gone; its own log'
    )


def test_alone_nobody_is_told():
  hosts = hosts_.Hosts()
  tree = {'a': np.arange(3)}
  assert [hosts.leads, hosts.count] == [True, 1]
  assert hosts.share(5) == slice(0, 5)
  assert hosts.sum(tree) is hosts.rows(tree) is hosts.copy(tree) is tree
  assert hosts.gather(b'm') == [b'm']
  with pytest.raises(KeyError), hosts.all_or_none():
    raise KeyError


@pytest.mark.parametrize(
  'given', [('localhost:1', 0, -1), ('localhost:1', 2, 2), ('', 2, 0)]
)
def test_half_of_the_flags_is_refused_in_a_line(given):
  with pytest.raises(
    ValueError, match='--coordinator=ADDRESS:PORT --num_hosts=N'
  ):
    hosts_.join(*given)


def test_hosts_that_cannot_be_found_are_a_line():
  """JAX has started in this process, which is too late to join."""
  np.asarray(hosts_.jnp.zeros(1))
  with pytest.raises(ValueError, match='did not find each other'):
    hosts_.join('localhost:1', 2, 0)
