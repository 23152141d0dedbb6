"""The thread that makes things ready, beside the first round."""

import threading

import pytest

from fedpm_jax.experiments import leading


def test_what_warms_up_ends_before_a_failed_run_does():
  """Else it would compute beside the next run of this process."""
  failed, done = threading.Event(), []

  def slow():
    assert failed.wait(10)
    done.append('slow')

  def broken():
    raise RuntimeError('no evaluation')

  def fails():
    with leading.warming_up(broken, slow) as thread:
      thread.start()
      failed.set()
      raise FloatingPointError('the loss')

  with pytest.raises(FloatingPointError, match='the loss'):
    fails()
  assert done == ['slow']  # The task before it failed, without a word.


def test_nothing_is_waited_for_that_has_not_started():
  with leading.warming_up(pytest.fail) as thread:
    pass
  assert not thread.is_alive()
