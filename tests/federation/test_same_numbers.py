"""A federation gives the simulation's numbers: masks, theta, metrics, files."""

import tomllib

import federations as f
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy
from whole_runs import ROOT

from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.federation import envelope, settings
from fedpm_jax.federation.federated import Federated
from fedpm_jax.federation.strategy import FedPM
from fedpm_jax.prng import keys
from fedpm_jax.reports import records
from fedpm_jax.system import machine


@pytest.mark.parametrize(
  ('config', 'flags'),
  [
    (
      'digits',
      '--config.clients_per_round=3 --config.optimizer.schedule=cosine',
    ),
    (
      'digits',
      '--config.fedpm.persistent_optimizer=true'
      ' --config.aggregation.weights=examples --config.data.sizes=unequal',
    ),
    ('methods:eden_tenth', ''),
    ('methods:fedmrn', '--config.rounds=2'),
    ('methods:fedpm_klms', '--config.rounds=2'),
  ],
)
def test_a_federation_is_the_simulation(tmp_path, config, flags):
  told = f.told(flags, config)
  simulated = f.simulate(tmp_path / 'simulated', told)
  federated = f.federate(tmp_path / 'federated', f.grid_of(told), told)
  assert f.common(federated) == f.common(simulated)
  assert f.digest(tmp_path / 'federated') == f.digest(tmp_path / 'simulated')


def test_a_simulation_goes_on_as_a_federation(tmp_path):
  whole = f.simulate(tmp_path / 'whole', f.told())
  f.simulate(tmp_path / 'both', f.told('--config.rounds=1'))
  rows = f.federate(tmp_path / 'both', f.grid_of(f.told()), f.told())
  # The clients are new: the second round's broadcast is the whole theta.
  but = ('downlink/bytes', 'downlink/bpp_wire')
  assert f.common(rows, but) == f.common(whole, but)
  assert rows[1]['federation/forgotten'] == f.CLIENTS
  assert f.digest(tmp_path / 'both') == f.digest(tmp_path / 'whole')


def test_bytes_on_the_link_are_those_of_the_messages_and_little_more(tmp_path):
  (row, *_) = f.federate(
    tmp_path, f.grid_of(f.told()), f.told('--config.rounds=1')
  )
  for way, messages in (('up', f.CLIENTS), ('down', 2 * f.CLIENTS)):
    more = row[f'federation/bytes_{way}'] - row[f'{way}link/bytes']
    assert 0 < more < 1000 * messages  # Down, everybody is asked who it is.


def test_as_a_strategy_with_the_loop_of_flower(tmp_path):
  told = f.told()
  simulated = f.simulate(tmp_path, told)
  strategy = FedPM(settings.read(told).config, tmp_path, join_timeout=0.0)
  result = Strategy.start(
    strategy, f.grid_of(told), ArrayRecord(), num_rounds=3
  )
  for number, row in enumerate(f.common(simulated), start=1):
    found = dict(result.train_metrics_clientapp[number])
    assert f.common([found]) == [
      {k: v for k, v in row.items() if not k.startswith('eval/')}
    ]
  last = dict(result.evaluate_metrics_clientapp[3])
  assert last['eval/accuracy_mean'] == simulated[-1]['eval/accuracy_mean']


def test_start_returns_the_metrics_of_every_round(tmp_path, capsys):
  told = f.told('--config.rounds=2')
  strategy = FedPM(settings.read(told).config, tmp_path)
  result = strategy.start(f.grid_of(told))
  rows = records.read_rows(tmp_path / 'metrics.jsonl')
  assert 'FedPM: 2 rounds, 4 of 4 clients' in capsys.readouterr().out
  for number, row in enumerate(rows, start=1):
    train = result.train_metrics_clientapp[number]
    assert train['uplink/bytes'] == row['uplink/bytes']
    server = result.evaluate_metrics_serverapp[number]
    assert server['eval/accuracy_mean'] == row['eval/accuracy_mean']


def test_every_key_of_the_run_config_is_known():
  """Flower takes from --run-config only what pyproject.toml lists."""
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  assert project['tool']['flwr']['app']['config'] == settings.DEFAULTS


def test_private_randomness_is_the_clients_alone(tmp_path, monkeypatch):
  flags = '--config.rounds=1 --config.wire.private_randomness=true'
  told = f.told(
    f'{flags} --config.wire.uplink=prior --config.wire.downlink=theta_levels'
  )
  asked = []
  words, host_rng = keys.words, keys.host_rng

  def watched(seed, purpose, **rest):
    asked.append((seed, purpose))
    return words(seed, purpose, **rest)

  def watched_host(seed, purpose, **rest):
    asked.append((seed, purpose))
    return host_rng(seed, purpose, **rest)

  monkeypatch.setattr(keys, 'words', watched)
  monkeypatch.setattr(keys, 'host_rng', watched_host)
  sent = []

  def on_reply(request, reply):
    content = envelope.read_answer(reply)
    if content.status == envelope.UPDATE:
      sent.append(content.message)
    return [reply]

  for name in ('one', 'two'):
    grid = f.grid_of(told)
    grid.on_reply = on_reply
    f.federate(tmp_path / name, grid, told)
  # Twice the same configuration, and no mask is the same.
  assert len({*sent}) == 2 * f.CLIENTS
  of_a_client = {keys.Purpose.LOCAL, keys.Purpose.BATCHES}
  shared = [purpose for seed, purpose in asked if seed == 5]
  assert not of_a_client & {*shared}


def test_a_server_keeps_no_states_of_clients(monkeypatch):
  """However large they are; a simulation of them is refused."""
  monkeypatch.setattr(machine, 'memory_limit', lambda: 0)
  told = f.told('--config.fedpm.persistent_optimizer=true')
  config = settings.read(told).config
  with pytest.raises(ValueError, match='persistent_optimizer=False'):
    Experiment(config)
  server = Federated(config, grid=f.grid_of(told))
  assert server.first_state().clients == ()
