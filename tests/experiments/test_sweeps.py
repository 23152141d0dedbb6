"""Sweeps: which runs are started, and what becomes of those that fail."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import fake_runs
import pytest

from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import sweeps, workers
from fedpm_jax.experiments.leading import Stopped
from fedpm_jax.system import files, lock

ROOT = pathlib.Path(__file__).parents[2]


def run(method='fedpm', seed=0, **changes):
  config = configs.default()
  config.update_from_flattened_dict({'seed': seed} | changes)
  labels = {'data': 'digits', 'method': method, 'seed': str(seed)}
  return sweeps.Run(labels, config)


def fake_train(config, folder, **_):
  """Does what the learning rate says; in processes it is found by its name."""
  print('hello from', folder.name)
  rate = config.optimizer.learning_rate
  with open(folder / 'starts', 'a') as file:
    file.write('x')
  if rate == 2:
    raise ValueError('a rate of 2\nis too large')
  if rate == 3:
    os.kill(os.getpid(), signal.SIGKILL)
  if rate == 4:
    (folder / 'pid').write_text(str(os.getpid()))
    time.sleep(600)
  if rate == 5:
    cores = sorted(os.sched_getaffinity(0))
    (folder / 'cores.json').write_text(json.dumps(cores))
  return leave_files(folder, configs.to_dict(config))


def leave_files(folder, config):
  """The files of a finished run, and its summary."""
  row = fake_runs.row(0, 0.5, 1, 1)
  summary = fake_runs.summary_of([row], 0)
  summary['config'] = config
  summary['model']['sha256'] = hashlib.sha256(b'a model').hexdigest()
  (folder / 'model.fedpm').write_bytes(b'a model')
  (folder / 'metrics.jsonl').write_text(json.dumps(row) + '\n')
  files.write_json(folder / 'config.json', config)
  for name in ('curves.png', 'partition.png'):
    (folder / name).touch()
  files.write_json(folder / 'summary.json', summary)
  return summary


def rated(rate, method='fedpm', seed=0):
  return run(method, seed, **{'optimizer.learning_rate': float(rate)})


def starts(workdir):
  """Of every run, how often it was started."""
  return {
    path.parent.relative_to(workdir).as_posix(): len(path.read_text())
    for path in workdir.rglob('starts')
  }


def test_finished_runs_are_left_alone(tmp_path, capsys):
  runs = [rated(1, seed=0), rated(1, seed=1)]
  assert sweeps.execute(runs[:1], tmp_path, jobs=0, function=fake_train) == 0
  assert sweeps.execute(runs, tmp_path, jobs=0, function=fake_train) == 0
  names = ['digits/fedpm/seed_0', 'digits/fedpm/seed_1']
  assert starts(tmp_path) == dict.fromkeys(names, 1)
  assert '1 were finished before, 1 now, 0 failed' in capsys.readouterr().out
  for one, name in zip(runs, names, strict=True):
    assert (
      json.loads((tmp_path / name / 'labels.json').read_text()) == one.labels
    )
  assert (tmp_path / names[0] / 'log.txt').read_text() == 'hello from seed_0\n'


def test_a_run_of_another_configuration_is_not_finished(tmp_path):
  sweeps.execute([rated(1)], tmp_path, jobs=0, function=fake_train)
  assert not sweeps.is_finished(tmp_path / 'digits/fedpm/seed_0', rated(7))
  sweeps.execute([rated(7)], tmp_path, jobs=0, function=fake_train)
  assert starts(tmp_path) == {'digits/fedpm/seed_0': 2}


def test_where_the_data_lies_makes_no_other_run(tmp_path):
  sweeps.execute([rated(1)], tmp_path, jobs=0, function=fake_train)
  moved = run(**{'optimizer.learning_rate': 1.0, 'data.dir': '/elsewhere'})
  assert sweeps.is_finished(tmp_path / 'digits/fedpm/seed_0', moved)


@pytest.mark.parametrize(
  ('changes', 'is_finished'),
  [
    ({'evaluation.every': 9, 'checkpoint.keep': 7}, True),
    ({'rounds': 31}, False),
    ({'seed': 1}, False),
  ],
)
def test_what_makes_another_run(tmp_path, changes, is_finished):
  sweeps.execute([rated(1)], tmp_path, jobs=0, function=fake_train)
  other = run(**{'optimizer.learning_rate': 1.0} | changes)
  folder = tmp_path / 'digits/fedpm/seed_0'
  assert sweeps.is_finished(folder, other) == is_finished


@pytest.mark.parametrize(
  'name',
  [
    'summary.json',
    'model.fedpm',
    'curves.png',
    'config.json',
    'metrics.jsonl',
  ],
)
def test_a_run_whose_files_are_damaged_is_not_finished(tmp_path, name, caplog):
  sweeps.execute([rated(1)], tmp_path, jobs=0, function=fake_train)
  folder = tmp_path / 'digits/fedpm/seed_0'
  (folder / name).write_bytes(b'damaged')
  if name == 'curves.png':
    (folder / name).unlink()
  assert not sweeps.is_finished(folder, rated(1))
  assert (name in caplog.text) == (name != 'curves.png')


def test_a_run_is_finished_where_a_report_takes_it(tmp_path, caplog):
  """Else the report asks for a start, and the start says that it is over."""
  sweeps.execute([rated(1)], tmp_path, jobs=0, function=fake_train)
  folder = tmp_path / 'digits/fedpm/seed_0'
  path = folder / 'metrics.jsonl'
  path.write_text(path.read_text().replace('0.5', '0.6'))
  assert not sweeps.is_finished(folder, rated(1))
  assert 'another state of the run than metrics.jsonl' in caplog.text


@pytest.mark.parametrize('jobs', [0, 1])
def test_a_failure_is_listed_and_the_others_run(tmp_path, capfd, jobs):
  runs = [rated(2), rated(1, seed=1)]
  assert sweeps.execute(runs, tmp_path, jobs=jobs, function=fake_train) == 1
  output = capfd.readouterr()
  assert 'digits/fedpm/seed_1' in output.out
  assert output.err.splitlines()[-1] == (
    'failed: digits/fedpm/seed_0: ValueError: a rate of 2'
  )
  folder = tmp_path / 'digits/fedpm/seed_0'
  error = (folder / 'error.txt').read_text()
  assert error.startswith('ValueError: a rate of 2\n\nTraceback')
  assert 'is too large' in error
  assert 'fake_train' in error
  # It succeeds another time, and the error is gone.
  sweeps.execute([rated(1)], tmp_path, jobs=0, function=fake_train)
  assert not (folder / 'error.txt').exists()


def test_a_stop_ends_an_earlier_failure(tmp_path):
  """The folder is of a run that can go on, and no report calls it failed."""

  def stopped(config, folder, **_):
    raise Stopped(3)

  sweeps.execute([rated(2)], tmp_path, jobs=0, function=fake_train)
  assert list(tmp_path.rglob('error.txt'))
  sweeps.execute([rated(2)], tmp_path, jobs=0, function=stopped)
  assert not list(tmp_path.rglob('error.txt'))


def test_a_run_that_goes_on_elsewhere_has_not_failed(tmp_path, capfd):
  """A report would call it failed, also when it has come to its end."""

  def refused(config, folder, **_):
    with lock.locked(folder), lock.locked(folder):
      pass

  assert sweeps.execute([rated(1)], tmp_path, jobs=0, function=refused) == 1
  assert 'this process writes to it' in capfd.readouterr().err
  assert not list(tmp_path.rglob('error.txt'))


def test_all_are_labelled_before_the_first_starts(tmp_path):
  def stop(config, folder, **_):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    sweeps.execute(
      [rated(1), rated(1, seed=1)], tmp_path, jobs=0, function=stop
    )
  assert len(list(tmp_path.rglob('labels.json'))) == 2


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_death_is_the_failure_of_one_run(tmp_path, capfd, jobs):
  """The process is replaced, the other goes on, and no run is forgotten."""
  runs = [rated(3), *(rated(5, seed=seed) for seed in range(1, 5))]
  assert sweeps.execute(runs, tmp_path, jobs=jobs, function=fake_train) == 1
  failed = [
    line
    for line in capfd.readouterr().err.splitlines()
    if line.startswith('failed')
  ]
  assert failed == [
    'failed: digits/fedpm/seed_0: The process died, by a signal or for want of'
    ' memory.'
  ]
  assert starts(tmp_path) == {f'digits/fedpm/seed_{i}': 1 for i in range(5)}
  for seed in range(1, 5):
    folder = tmp_path / f'digits/fedpm/seed_{seed}'
    assert sweeps.is_finished(folder, rated(5, seed=seed))
    cores = json.loads((folder / 'cores.json').read_text())
    everything = sorted(os.sched_getaffinity(0))
    assert cores in [
      workers.share(everything, job, jobs) for job in range(jobs)
    ]


def test_a_run_that_is_stopped_has_not_failed(tmp_path):
  """In this process it ends the sweep, and nothing is written of it."""

  def stopped(config, folder, *, stop, **_):
    assert stop()
    raise Stopped(3)

  with pytest.raises(Stopped, match='after round 3'):
    sweeps.execute(
      [rated(1)], tmp_path, jobs=0, function=stopped, stop=lambda: True
    )
  assert not list(tmp_path.rglob('error.txt'))


def test_a_signal_stops_one_run_of_a_worker(monkeypatch):
  """The next one asks anew."""
  stop = workers._AskedToStop()
  handlers = {}
  monkeypatch.setattr(workers.signal, 'signal', handlers.__setitem__)
  assert not stop()
  handlers[signal.SIGTERM]()
  assert stop()
  stop.reset()
  assert not stop()


def test_shares_are_disjoint_and_whole():
  cores = [0, 1, 2, 4, 5]
  assert [workers.share(cores, job, 2) for job in range(2)] == [
    [0, 1],
    [2, 4, 5],
  ]
  assert workers.share(cores, 0, 1) == cores
  assert [workers.share([3], job, 2) for job in range(2)] == [[3], [3]]


@pytest.mark.parametrize(
  ('signal_', 'code'), [(signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_no_process_outlives_the_sweep(tmp_path, signal_, code):
  """Stopped by a signal, even one that nobody can answer."""
  script = (
    'import pathlib, test_sweeps\n'
    'from fedpm_jax import sweep\n'
    'from fedpm_jax.experiments import sweeps\n'
    'from fedpm_jax.experiments import config_files\n'
    'config_files.find = lambda name, _: pathlib.Path(name)\n'
    'sweeps.read = lambda path: [test_sweeps.rated(4)]\n'
    'sweeps.execute.__kwdefaults__["function"] = test_sweeps.fake_train\n'
    'sweep.main()\n'
  )
  command = [sys.executable, '-c', script, '--config=x']
  command.append(f'--workdir={tmp_path}')
  environment = os.environ | {
    'PYTHONPATH': f'{ROOT}:{ROOT}/tests/experiments:{ROOT}/tests/reports'
  }
  pid = tmp_path / 'digits/fedpm/seed_0/pid'
  with subprocess.Popen(
    command, env=environment, stderr=subprocess.PIPE, text=True
  ) as process:
    _wait(lambda: pid.exists() and pid.read_text())
    process.send_signal(signal_)
    _, errors = process.communicate(timeout=60)
  assert process.returncode == code
  assert 'Traceback' not in errors
  if signal_ == signal.SIGTERM:
    assert errors.endswith('Stopped; the same command continues.\n')
  _wait(lambda: not _alive(int(pid.read_text())))


def _wait(condition):
  deadline = time.time() + 60
  while not condition():
    assert time.time() < deadline
    time.sleep(0.05)


def _alive(pid):
  try:
    state = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except FileNotFoundError:
    return False
  return state.rpartition(')')[2].split()[0] != 'Z'


RUNS = [run(m, s) for m in ('fedpm', 'fedavg', 'eden') for s in (0, 1)]


@pytest.mark.parametrize(
  ('only', 'left'),
  [
    ([], [0, 1, 2, 3, 4, 5]),
    (['method=eden,fedpm'], [0, 1, 4, 5]),
    (['method=eden,fedpm', 'seed=1'], [1, 5]),
  ],
)
def test_only(only, left):
  assert sweeps.select(RUNS, only) == [RUNS[i] for i in left]


@pytest.mark.parametrize(
  ('runs', 'only', 'message'),
  [
    (RUNS, ['size=3'], r"a label of \['data', 'method', 'seed'\], got 'size=3"),
    (RUNS, ['method=fedpn'], r"\['fedpm', 'fedavg', 'eden'\] .* got 'fedpn'"),
    (RUNS, ['method'], "got ''"),
    ([], [], 'no runs'),
  ],
)
def test_only_of_something_else(runs, only, message):
  with pytest.raises(ValueError, match=message):
    sweeps.select(runs, only)


def labelled(**labels):
  return sweeps.Run(labels, configs.default())


@pytest.mark.parametrize(
  ('runs', 'message'),
  [
    ([run(), run()], 'Two runs have the folder digits/fedpm/seed_0'),
    ([run(), run('eden', rounds=0)], 'digits/eden/seed_0: config.rounds must'),
    ([rated(-1)], 'learning_rate must be positive'),
    ([labelled(data='digits', seed='0')], r"need .* got \['data', 'seed'\]"),
    ([run(), labelled(data='a', seed='0', method='b')], 'the same labels'),
    ([run('../x')], r"got method = '../x'"),
    ([labelled(data='digits', method='a', seed=0)], 'got seed = 0'),
  ],
)
def test_a_sweep_that_makes_no_sense(runs, message):
  with pytest.raises(ValueError, match=message):
    sweeps.check(runs)
