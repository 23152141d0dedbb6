"""Runs that end before their last round, because a rule says so."""

import pytest
from whole_runs import outcome, small

import fedpm_jax as fp
from fedpm_jax.experiments import earlier, stopping, sweeps
from fedpm_jax.reports import records

LONG = {
  'model': 'lenet',
  'rounds': 5,
  'evaluation.every': 1,
  'checkpoint.every': 2,
}
ACCURACIES = (0.3, 0.5, 0.4, 0.5, 0.6)  # by round


@pytest.fixture
def known(monkeypatch):
  """Evaluations that find ACCURACIES, whatever was trained."""
  evaluate = fp.Experiment.evaluate

  def fake(run):
    accuracy = ACCURACIES[run.next_round - 1]
    return evaluate(run) | {records.ACCURACY: accuracy}

  monkeypatch.setattr(fp.Experiment, 'evaluate', fake)


def _rows(*accuracies):
  return [
    {'round_idx': t} if x is None else {'round_idx': t, records.ACCURACY: x}
    for t, x in enumerate(accuracies)
  ]


@pytest.mark.parametrize(
  ('patience', 'accuracy', 'accuracies', 'ends_after'),
  [
    (0, 0.0, [0.5] * 9, None),
    (1, 0.0, [0.5, 0.6, 0.7], None),
    (1, 0.0, [0.5, 0.5, 0.9], 2),  # As good is not better.
    (2, 0.0, [0.5, 0.4, 0.6, 0.5, 0.6, 0.9], 5),
    (2, 0.0, [0.5, None, 0.4, None, None, 0.4, 0.9], 6),
    (3, 0.0, [0.9, 0.4, 0.5, 0.6, 0.7], 4),  # of the best, not of the last
    (0, 0.6, [0.5, 0.59, 0.6, 0.9], 3),
    (0, 1.0, [0.5, 0.9999], None),
    (1, 0.6, [0.5, 0.7, 0.1], 2),
    (1, 0.6, [], None),
  ],
)
def test_the_rule_is_a_function_of_the_rows(
  patience, accuracy, accuracies, ends_after
):
  rule = {
    'rounds': 10,
    'stopping.patience': patience,
    'stopping.accuracy': accuracy,
  }
  config, rows = small(**rule), _rows(*accuracies)
  ends = [n for n in range(len(rows) + 1) if stopping.reason(rows[:n], config)]
  assert (ends[0] if ends else None) == ends_after


def test_it_ends_where_the_last_round_was_evaluated_only():
  """The table of a run needs it; a rule that is new comes later, if need be."""
  config = small(**{'stopping.patience': 1, 'rounds': 5})
  assert stopping.reason(_rows(0.5, 0.4), config)
  assert not stopping.reason(_rows(0.5, 0.4, None), config)


def test_a_run_that_has_done_all_rounds_has_not_ended_early():
  config = small(**{'stopping.patience': 1, 'rounds': 2})
  assert not stopping.reason(_rows(0.5, 0.4), config)


def test_an_accuracy_is_a_share(tmp_path):
  with pytest.raises(ValueError, match=r'stopping.accuracy must lie in \[0, 1'):
    fp.train(small(**{'stopping.accuracy': 97.0}), tmp_path / 'run')


def test_a_run_that_ended_early_is_finished(tmp_path, known, capsys):
  config = small(**LONG, **{'stopping.patience': 2})
  summary = fp.train(config, tmp_path / 'run')
  assert summary['last']['round_idx'] == 3  # 0.5 is not above 0.5.
  assert summary[earlier.ENDED].startswith(
    'after round 4 of 5: no accuracy_mean'
  )
  assert '0.5000 of round 2' in summary[earlier.ENDED]
  before = (tmp_path / 'run' / 'summary.json').stat().st_mtime_ns
  again = fp.train(config, tmp_path / 'run', verbose=True)
  assert again == summary
  assert (tmp_path / 'run' / 'summary.json').stat().st_mtime_ns == before
  told = capsys.readouterr().out
  assert f'{tmp_path / "run"} is finished.' in told
  assert f'It ended {summary[earlier.ENDED]}.' in told


def test_its_files_are_made_again_without_a_round_more(tmp_path, known):
  config = small(**LONG, **{'stopping.accuracy': 0.5})
  summary = fp.train(config, tmp_path / 'run')
  assert summary['last']['round_idx'] == 1
  whole = outcome(tmp_path / 'run')
  (tmp_path / 'run' / 'summary.json').unlink()
  again = fp.train(config, tmp_path / 'run')
  assert again[earlier.ENDED] == summary[earlier.ENDED]
  assert outcome(tmp_path / 'run') == whole


def test_a_run_that_was_killed_ends_in_the_same_round(
  tmp_path, known, monkeypatch
):
  """Killed after the last row, before its checkpoint; then in the middle."""
  config = small(**LONG, **{'stopping.patience': 2})
  fp.train(config, tmp_path / 'whole')
  for round_idx in (2, 3):
    workdir = tmp_path / f'killed_{round_idx}'

    def die(rows, config, last=round_idx):
      del config
      if rows and rows[-1]['round_idx'] == last:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
      patched.setattr(stopping, 'reason', die)
      with pytest.raises(KeyboardInterrupt):
        fp.train(config, workdir)
    fp.train(config, workdir)
    assert outcome(workdir) == outcome(tmp_path / 'whole')


def test_without_the_rule_it_goes_on(tmp_path, known):
  """And ends as if there had been no rule."""
  fp.train(small(**LONG), tmp_path / 'whole')
  fp.train(small(**LONG, **{'stopping.accuracy': 0.4}), tmp_path / 'run')
  assert len(records.read_rows(tmp_path / 'run' / 'metrics.jsonl')) == 2
  summary = fp.train(small(**LONG), tmp_path / 'run')
  assert earlier.ENDED not in summary
  assert outcome(tmp_path / 'run') == outcome(tmp_path / 'whole')


def test_a_sweep_leaves_it_alone_while_the_rule_is_the_same(tmp_path, known):
  rule = {'stopping.accuracy': 0.5}
  fp.train(small(**LONG, **rule), tmp_path / 'run')
  labels = {'data': 'digits', 'method': 'fedpm', 'seed': '0'}
  is_finished = lambda **changes: sweeps.is_finished(
    tmp_path / 'run', sweeps.Run(labels, small(**LONG | rule | changes))
  )
  assert is_finished()
  assert not is_finished(**{'stopping.accuracy': 0.9})
  assert not is_finished(rounds=6)


def test_rounds_of_an_experiment_end_too(known):
  run = fp.Experiment(small(**LONG, **{'stopping.accuracy': 0.5}))
  rows = list(run.rounds())
  assert [row['round_idx'] for row in rows] == [0, 1]
  assert list(run.rounds(rows)) == []
