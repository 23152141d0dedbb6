"""What `fedpm sweep` lists, estimates and changes, without any training."""

import json
import pathlib
import re

import fake_runs
import pytest

from fedpm_jax import sweep as program
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import (
  sweep_changes,
  sweep_states,
  sweep_times,
  sweeps,
  workers,
)
from fedpm_jax.system import files, lock


def run(method='fedpm', seed=0, **changes):
  config = configs.default()
  given = {'seed': seed, 'algorithm': method, 'rounds': 6}
  if method == 'fedavg':
    given |= {f'wire.{way}link': 'raw' for way in ('up', 'down')}
    given['wire.compressor'] = 'identity'
  config.update_from_flattened_dict(given | changes)
  labels = {'data': 'digits', 'method': method, 'seed': str(seed)}
  return sweeps.Run(labels, config)


RUNS = [run(m, s) for m in ('fedpm', 'fedavg') for s in (0, 1)]


def leave(workdir, one, seconds, *, checkpoint=0, **changes):
  """What a run leaves that has come to these total times."""
  folder = workdir / sweeps.directory(one.labels)
  rows = [
    fake_runs.row(i, 0.5, 1, 1) | {'time/total_s': total}
    for i, total in enumerate(seconds)
  ]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  files.write_bytes(folder / 'metrics.jsonl', text.encode())
  files.write_json(
    folder / 'config.json', configs.to_dict(one.config) | changes
  )
  if checkpoint:
    (folder / 'checkpoints' / str(checkpoint)).mkdir(parents=True)
    (folder / 'checkpoints' / f'.{checkpoint}.tmp').mkdir()
  return folder


# ---------------------------------------------------------------------- states


def said(workdir, one, monkeypatch=None):
  (state,) = sweep_states.states([one], workdir)
  return str(state)


def test_the_state_of_a_run(tmp_path):
  one = RUNS[0]
  assert said(tmp_path, one) == 'to do'
  assert not list(tmp_path.iterdir())  # It is looked at, and not made.
  folder = leave(tmp_path, one, [1, 2, 3])
  assert said(tmp_path, one) == 'to do'  # no checkpoint: it starts again
  leave(tmp_path, one, [1, 2, 3], checkpoint=2)
  assert said(tmp_path, one) == 'stopped at round 2 of 6'
  (folder / 'error.txt').write_text('ValueError: a\x1b reason\n\nTraceback')
  assert said(tmp_path, one) == (
    r'failed at round 2 of 6: ValueError: a\x1b reason'
  )
  with lock.locked(folder):
    assert said(tmp_path, one) == 'running at round 3 of 6'
  assert 'failed' in said(tmp_path, one)


def test_another_run_in_the_way_says_in_what_it_differs(tmp_path):
  leave(tmp_path, RUNS[0], [1, 2], batch_size=99)
  assert said(tmp_path, RUNS[0]) == (
    'in the way: another run, batch_size: 99 there, 32 here'
  )
  found = sweep_states.states(RUNS[:1], tmp_path)
  assert sweep_states.left_of(found) == []
  # One that failed in its first round left nothing that is worth keeping.
  leave(tmp_path, RUNS[0], [], batch_size=99)
  assert said(tmp_path, RUNS[0]) == 'to do'
  # What may change while a run goes on is nothing in the way.
  leave(tmp_path, RUNS[1], [1, 2], checkpoint=2, rounds=3)
  assert said(tmp_path, RUNS[1]) == 'stopped at round 2 of 6'


def test_a_finished_run(tmp_path, monkeypatch):
  monkeypatch.setattr(sweeps, 'is_finished', lambda folder, one: True)
  assert said(tmp_path, RUNS[0]) == 'finished'
  text = sweep_states.table(sweep_states.states(RUNS, tmp_path), tmp_path)
  assert text.splitlines() == [
    'digits/fedpm/seed_0   finished',
    'digits/fedpm/seed_1   finished',
    'digits/fedavg/seed_0  finished',
    'digits/fedavg/seed_1  finished',
    f'4 runs in {tmp_path}: 4 finished.',
  ]


# ----------------------------------------------------------------------- times


def times_of(workdir, runs):
  times = sweep_times.Times()
  for one in runs:
    times.add(workdir / sweeps.directory(one.labels))
  return times


def test_an_estimate_is_the_mean_of_runs_with_other_seeds(tmp_path):
  leave(tmp_path, RUNS[0], [10, 12, 14, 16])  # 10, then 2 a round
  leave(tmp_path, run(seed=7), [20, 24], rounds=2)  # 20, then 4
  times = times_of(tmp_path, [RUNS[0], run(seed=7)])
  config = configs.to_dict(RUNS[1].config)
  assert times.seconds(config, 6) == pytest.approx(15 + 5 * 3)
  assert times.seconds(config, 1) == pytest.approx(15)
  assert times.seconds(configs.to_dict(RUNS[2].config), 6) is None
  # How often a run is evaluated takes time.
  assert times.seconds(config | {'evaluation': {'every': 2}}, 6) is None
  assert times.seconds(None, 6) is None


@pytest.mark.parametrize('seconds', [[], [10], [10, None, 12]])
def test_nothing_is_estimated_from_less_than_two_rounds(tmp_path, seconds):
  leave(tmp_path, RUNS[0], seconds)
  times = times_of(tmp_path, RUNS)
  assert times.seconds(configs.to_dict(RUNS[0].config), 6) is None


def test_damaged_rows_and_folders_that_are_not_there_tell_nothing(tmp_path):
  folder = leave(tmp_path, RUNS[0], [10, 12])
  (folder / 'metrics.jsonl').write_text('nonsense\n{}\n')
  times = times_of(tmp_path, RUNS)
  assert times.seconds(configs.to_dict(RUNS[0].config), 6) is None


def test_the_time_of_many_runs_side_by_side(tmp_path):
  leave(tmp_path, RUNS[0], [100, 200])
  times = times_of(tmp_path, RUNS)
  known = configs.to_dict(RUNS[1].config)
  left = times.left([(known, 6), (known, 6), (known, 1), (None, 6)])
  assert left == (600 + 600 + 100, 600, 1)
  assert left.text(1) == 'about 22 min, and 1 of unknown time'
  assert left._replace(unknown=0).text(2) == 'about 11 min'
  assert left._replace(unknown=0).text(99) == 'about 10 min'  # the longest
  assert times.left([(None, 6)]).text(2) == 'unknown'


def test_a_dry_run_says_what_is_known_and_what_is_not(tmp_path):
  leave(tmp_path, RUNS[0], [10, 12], checkpoint=2)
  found = sweep_states.states(RUNS, tmp_path)
  text = sweep_states.table(found, tmp_path, times_of(tmp_path, RUNS), 2)
  assert text.splitlines() == [
    'digits/fedpm/seed_0   stopped at round 2 of 6, 16 s',
    'digits/fedpm/seed_1   to do, 20 s',
    'digits/fedavg/seed_0  to do, unknown time',
    'digits/fedavg/seed_1  to do, unknown time',
    f'4 runs in {tmp_path}: 1 stopped, 3 to do.',
    'Time left, with --jobs=2, as this folder has measured rounds: about 20 s,'
    ' and 2 of unknown time.',
  ]


def test_the_progress_of_a_sweep(tmp_path, capsys):
  def function(config, folder, **_):
    leave(tmp_path, run(config.algorithm, config.seed), [10, 12])
    if config.algorithm == 'fedavg':
      raise ValueError('no')
    return {'last': {'eval/accuracy_mean': 0.5}}

  runs = [*RUNS[:3], run(seed=2)]
  assert sweeps.execute(runs, tmp_path, jobs=0, function=function) == 1
  # How long a run took depends on the machine.
  out, err = (
    re.sub(r'(seed_\d  )\d+ s', r'\1N s', text) for text in capsys.readouterr()
  )
  lines = out.splitlines()
  assert lines[:3] == [
    'run 1 of 4: digits/fedpm/seed_0',
    'digits/fedpm/seed_0  N s  accuracy 0.5000  (3 left, about 40 s, and 1'
    ' of unknown time)',
    'run 2 of 4: digits/fedpm/seed_1',
  ]
  assert lines[-2].endswith('accuracy 0.5000  (0 left)')
  assert 'fedavg/seed_0  N s  ValueError: no  (1 left, about 20 s)' in err


def test_side_by_side_tells_which_runs_begin(tmp_path):
  begun = []
  tasks = [
    workers.Task(tmp_path / one.labels['method'], one.config)
    for one in (RUNS[0], RUNS[2])
  ]
  for outcome in workers.side_by_side(tasks, print, 2, begun=begun.append):
    assert len(begun) == 2
    assert outcome.folder in begun


# --------------------------------------------------------------------- changes


def test_a_change_of_every_run():
  runs, changes = sweep_changes.apply(
    RUNS, ['rounds=9', 'fedpm.lambda_0=2', 'config.data.dir=/a', 'model=conv4']
  )
  assert [one.config.rounds for one in runs] == [9] * 4
  assert [one.config.fedpm.lambda_0 for one in runs] == [2.0, 2.0, 1.0, 1.0]
  assert [one.labels for one in runs] == [one.labels for one in RUNS]
  assert [one.config.rounds for one in RUNS] == [6] * 4
  # Not the folder of the data, and not what all runs had.
  assert changes == {'fedpm.lambda_0': '2.0', 'rounds': '9'}
  name = sweep_changes.folder_name('mine', changes)
  assert name == 'mine,fedpm.lambda_0=2.0,rounds=9'


def test_no_change_is_the_sweep_itself():
  runs, changes = sweep_changes.apply(RUNS, [])
  assert not changes
  assert sweep_changes.folder_name('mine', changes) == 'mine'
  assert [configs.to_dict(r.config) for r in runs] == [
    configs.to_dict(r.config) for r in RUNS
  ]


@pytest.mark.parametrize(
  ('setting', 'message'),
  [
    ('rounds', "--set takes key=value, such as rounds=5, got 'rounds'"),
    ('roundz=5', 'did you mean config.rounds'),
    ('rounds=many', "config.rounds: expected an integer, got 'many'"),
    ('rounds=0', 'digits/fedpm/seed_0: config.rounds must be at least 1'),
    ('qsgd.levels=3', 'no run of this sweep uses the options of qsgd'),
    ('seed=3', 'digits/fedpm/seed_0 and digits/fedpm/seed_1.*--only chooses'),
  ],
)
def test_a_change_that_makes_no_sense(setting, message):
  with pytest.raises(ValueError, match=message) as caught:
    sweep_changes.apply(RUNS, [setting])
  assert len(str(caught.value).splitlines()) == 1


def test_changes_do_not_mix_in_a_folder(tmp_path):
  sweep_changes.check_folder(tmp_path, {'rounds': '9'})  # Nothing is there.
  sweep_changes.note(tmp_path, {'rounds': '9'})
  sweep_changes.check_folder(tmp_path, {'rounds': '9'})
  for changes, shown in (({}, 'no --set'), ({'seed': '1'}, '--set seed=1')):
    with pytest.raises(ValueError, match=f'--set rounds=9, got {shown}'):
      sweep_changes.check_folder(tmp_path, changes)


def test_a_sweep_without_changes_takes_none_later(tmp_path):
  sweep_changes.note(tmp_path, {})
  files.write_json(tmp_path / 'sweep.json', [])
  sweep_changes.check_folder(tmp_path, {})
  with pytest.raises(ValueError, match='a sweep with no --set, got --set rou'):
    sweep_changes.check_folder(tmp_path, {'rounds': '9'})


SWEEP = """
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import sweeps


def get_sweep():
  labels = {'data': 'digits', 'method': 'fedpm', 'seed': '0'}
  return [sweeps.Run(labels, configs.default())]
"""


def test_the_program_lists_and_changes_nothing(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  path = pathlib.Path('mine.py')
  path.write_text(SWEEP)
  for flags, words in (
    (['--list'], 'in runs/mine: 1 to do.'),
    (['--dry-run', '--jobs=3'], 'with --jobs=3, as this folder has measured'),
    (['--list', '--set', 'rounds=5'], 'in runs/mine,rounds=5: 1 to do.'),
    (['--list', '--set=rounds=5', '--workdir=here'], 'in here: 1 to do.'),
  ):
    program.main(['--config=mine.py', *flags])
    assert words in capsys.readouterr().out
  assert list(tmp_path.iterdir()) == [tmp_path / 'mine.py']
