"""A federation on this machine: what it survives, and where its time goes.

    python benchmarks/federation.py [--only plain kills tls] [--out=FILE]

Starts a SuperLink and four SuperNodes on loopback, runs the digits over them,
and compares the end with the simulation's, to the bit:

    plain   nothing goes wrong; seconds a round beside the simulation's
    kills   one SuperNode is killed in a round, and started again; then the
            SuperLink is killed with the server's app, and started again; the
            same command goes on.  A round needs all four answers
    tls     encrypted, and only nodes whose keys are registered; one node more,
            with a key that nobody registered

Needs the extra `flower`, and openssl and ssh-keygen for `tls`.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

CLIENTS, ROUNDS, PORT = 4, 6, 18600
FLAGS = [
  f'--config.rounds={ROUNDS}',
  f'--config.num_clients={CLIENTS}',
  f'--config.clients_per_round={CLIENTS}',
  '--config.checkpoint.every=1',
]
ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(sys.executable).parent
LIMIT = 900  # seconds for a federation


class Federation:
  """A SuperLink and its SuperNodes, each a process with all that it starts."""

  def __init__(self, folder: pathlib.Path, *, tls: bool):
    self.folder, self.tls = folder, tls
    self.running: dict[str, subprocess.Popen] = {}
    self.environ = {
      **os.environ,
      'PATH': f'{BIN}{os.pathsep}{os.environ["PATH"]}',
      'FLWR_HOME': str(folder / 'home'),
      'FLWR_TELEMETRY_ENABLED': '0',
      'FLWR_DISABLE_UPDATE_CHECK': '1',
      'FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION': '1',
      'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    }
    (folder / 'home').mkdir(parents=True)
    security = (
      f'root-certificates = "{folder}/ca.crt"' if tls else 'insecure = true'
    )
    (folder / 'home' / 'config.toml').write_text(
      f'[superlink]\ndefault = "here"\n[superlink.here]\n'
      f'address = "127.0.0.1:{PORT}"\n{security}\n'
    )
    if tls:
      certificates(folder)

  def start(self, name: str, *command: str) -> None:
    """A process, whose output goes to a log of its name."""
    with open(self.folder / f'{name}.log', 'ab') as log:
      self.running[name] = subprocess.Popen(
        command,
        cwd=self.folder,
        env=self.environ,
        stdout=log,
        stderr=log,
        start_new_session=True,
      )

  def start_link(self) -> None:
    here = self.folder
    security = ['--insecure']
    if self.tls:
      security = [f'--ssl-ca-certfile={here}/ca.crt']
      security += [f'--ssl-certfile={here}/server.crt']
      security += [f'--ssl-keyfile={here}/server.key']
      security += ['--enable-supernode-auth']
    self.start(
      'link',
      *('flower-superlink', '--host=127.0.0.1', f'--port={PORT}', *security),
      f'--database={here}/link.db',
    )
    time.sleep(8)

  def start_node(self, client: int, key: str = '') -> None:
    security = ['--insecure']
    if self.tls:
      security = [f'--root-certificates={self.folder}/ca.crt']
      security += [f'--auth-supernode-private-key={self.folder}/{key}']
    self.start(
      key or f'node{client}',
      *('flower-supernode', f'--superlink=127.0.0.1:{PORT}', *security),
      f'--port={PORT + 1 + client}',
      f'--node-config=partition-id={client}',
    )

  def call(self, *command: str) -> str:
    """A command's output, which must end well."""
    done = subprocess.run(
      command,
      cwd=self.folder,
      env=self.environ,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )
    if done.returncode:
      sys.exit(f'{" ".join(command)}\n{done.stdout}{done.stderr}')
    return done.stdout

  def run(self, workdir: pathlib.Path) -> None:
    """Starts the app; `wait` waits for its rounds."""
    flags = ' '.join(FLAGS)
    told = f'workdir="{workdir}" min-answers={CLIENTS} flags="{flags}"'
    self.call('flwr', 'run', str(ROOT), 'here', '--run-config', told)

  def kill(self, name: str) -> None:
    """A process and all that it has started, at once."""
    process = self.running.pop(name)
    for pid in children(process.pid):
      with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    process.wait()

  def close(self) -> None:
    for name in list(self.running):
      self.kill(name)


def children(root: int) -> list[int]:
  """A process, and all that it and these have started."""
  listing = subprocess.run(
    ['ps', '-eo', 'pid=,ppid='], capture_output=True, text=True, check=True
  ).stdout
  pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
  found = [root]
  for parent in found:  # grows meanwhile
    found += [child for child, its in pairs if its == parent]
  return found


def certificates(folder: pathlib.Path) -> None:
  """A certificate authority, the server's certificate, a key a node."""
  openssl = lambda *words: subprocess.run(
    ['openssl', *words], cwd=folder, check=True, capture_output=True
  )
  name = ['-subj', '/CN=fedpm test']
  openssl(
    *('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', *name),
    *('-keyout', 'ca.key', '-out', 'ca.crt'),
  )
  openssl(
    *('req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost'),
    *('-keyout', 'server.key', '-out', 'server.csr'),
  )
  (folder / 'names').write_text('subjectAltName=DNS:localhost,IP:127.0.0.1')
  openssl(
    *('x509', '-req', '-in', 'server.csr', '-CA', 'ca.crt', '-CAkey', 'ca.key'),
    *('-CAcreateserial', '-days', '2', '-extfile', 'names'),
    *('-out', 'server.crt'),
  )
  for key in [*(f'key{i}' for i in range(CLIENTS)), 'stranger']:
    subprocess.run(
      ['ssh-keygen', '-q', '-t', 'ecdsa', '-b', '384', '-N', '', '-f', key],
      cwd=folder,
      check=True,
    )


def rows(workdir: pathlib.Path) -> list[dict]:
  """The rounds so far."""
  path = workdir / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  return [json.loads(line) for line in lines]


def wait(until, what: str) -> None:
  """Until a condition holds; ends the program where it never does."""
  start = time.monotonic()
  while not until():
    if time.monotonic() - start > LIMIT:
      sys.exit(f'{what} has not come in {LIMIT} s')
    time.sleep(0.5)


def simulate(folder: pathlib.Path) -> None:
  """The run in a simulation."""
  subprocess.run(
    [sys.executable, '-m', 'fedpm_jax.train', f'--workdir={folder}', *FLAGS],
    cwd=ROOT,
    check=True,
    capture_output=True,
  )


def a_federation(folder: pathlib.Path, kind: str) -> dict:
  """One of the kinds at the top of this file; what came of it."""
  workdir, federation = folder / 'run', Federation(folder, tls=kind == 'tls')
  done = lambda: (workdir / 'summary.json').exists()
  after = lambda n: wait(lambda: len(rows(workdir)) >= n, f'round {n}')
  with contextlib.closing(federation):
    federation.start_link()
    for client in range(CLIENTS):
      key = f'key{client}' if kind == 'tls' else ''
      if key:
        federation.call('flwr', 'supernode', 'register', f'{key}.pub', 'here')
      federation.start_node(client, key)
    if kind == 'tls':
      federation.start('stranger', *stranger(federation))
    federation.run(workdir)
    if kind == 'kills':
      after(2)
      federation.kill('node1')
      time.sleep(5)
      federation.start_node(1)
      after(4)
      federation.kill('link')
      time.sleep(5)
      federation.start_link()
      federation.run(workdir)
    wait(done, 'the end')
  result = {'kind': kind, **figures(workdir)}
  if kind == 'tls':
    said = (folder / 'stranger.log').read_text('utf-8', 'replace')
    plain = re.sub(r'\x1b\[[0-9;]*m', '', said)  # colours
    result['stranger'] = plain.strip().splitlines()[-1][:200]
  return result


def stranger(federation: Federation) -> list[str]:
  """A node with a key that nobody has registered, as client 0."""
  here = federation.folder
  return [
    *('flower-supernode', f'--superlink=127.0.0.1:{PORT}'),
    f'--root-certificates={here}/ca.crt',
    f'--auth-supernode-private-key={here}/stranger',
    f'--port={PORT + 50}',
    '--node-config=partition-id=0',
  ]


def figures(workdir: pathlib.Path) -> dict:
  """Of a run's rounds, the first left out."""
  found = rows(workdir)
  median = lambda name: statistics.median(row[name] for row in found[1:])
  events = {
    name.removeprefix('federation/'): sum(row[name] for row in found)
    for name in found[0]
    if re.fullmatch(
      'federation/(late|twice|refused|failed|forgotten|absent)', name
    )
  }
  framing = [
    (
      row['federation/bytes_down'] - row['downlink/bytes'],
      row['federation/bytes_up'] - row['uplink/bytes'],
    )
    for row in found[1:]
    if 'federation/bytes_up' in row
  ]
  return {
    'answers': [row.get('federation/answers') for row in found],
    'events': events,
    'seconds_a_round': round(median('time/round_s'), 2),
    'server_s': round(median('time/round_s') - median('time/clients_s'), 2),
    'framing_bytes_a_message': [
      round(statistics.median(each) / CLIENTS)
      for each in zip(*framing, strict=True)
    ],
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  kinds = ('plain', 'kills', 'tls')
  parser.add_argument('--only', nargs='+', choices=kinds, default=kinds)
  parser.add_argument('--out', help='a file, JSON')
  args = parser.parse_args()
  results = []
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    simulate(folder / 'simulated')
    results.append({'kind': 'simulation', **figures(folder / 'simulated')})
    model = (folder / 'simulated' / 'model.fedpm').read_bytes()
    for kind in args.only:
      try:
        result = a_federation(folder / kind, kind)
      except BaseException:
        for log in sorted((folder / kind).glob('*.log')):
          print(f'--- {log.name}\n{log.read_text("utf-8", "replace")[-2000:]}')
        raise
      ends = (folder / kind / 'run' / 'model.fedpm').read_bytes()
      results.append(result | {'same_model': ends == model})
      print(json.dumps(results[-1]), flush=True)
  text = json.dumps(results, indent=2) + '\n'
  print(text)
  if args.out:
    pathlib.Path(args.out).write_text(text)


if __name__ == '__main__':
  main()
