"""How many hostile messages are thrown, and a report on them."""

import judge
import pytest
import throwing

# As many as `make test` has time for.
_FEW = 20_000
# How many shares of all messages a test has, else one.  Bare decoders are quick,
# and only payloads that get past the first checks show what the last ones do.
_SHARES = {'test_bare_decoders_hold': 4}


def pytest_addoption(parser):
  parser.addoption(
    '--messages',
    type=int,
    default=0,
    help='how many hostile messages to throw, all in all, with a report',
  )


@pytest.fixture
def number(request):
  """How many messages are the share of one test."""
  # pytest does not know the option where it was started in another folder.
  wanted = request.config.getoption('--messages', 0) or _FEW
  shares = lambda item: _SHARES.get(item.originalname, 1)
  tests = [
    item
    for item in request.session.items
    if 'number' in getattr(item, 'fixturenames', ())
  ]
  return -(-wanted * shares(request.node) // sum(map(shares, tests)))


@pytest.fixture(autouse=True)
def _nothing_is_printed(capfd):
  """Panics of compiled libraries print on the file descriptor of stderr."""
  yield
  assert capfd.readouterr() == ('', '')


def pytest_terminal_summary(terminalreporter, config):
  if not config.getoption('--messages', 0):
    return
  write, tally = terminalreporter.write_line, throwing.TALLY
  outcomes = sorted({outcome for _, _, outcome in tally})
  write('who, attack'.ljust(40) + ''.join(f'{x:>15}' for x in outcomes))
  for who, attack in sorted({key[:2] for key in tally}):
    counts = (f'{tally[who, attack, outcome]:15,}' for outcome in outcomes)
    write(f'{who}, {attack}'.ljust(40) + ''.join(counts))
  for who, seconds in throwing.SECONDS.items():
    thrown = sum(times for key, times in tally.items() if key[0] == who)
    slowest = f'{1000 * judge.SLOW[who]:.1f} ms'
    write(f'{who}: {thrown:,} in {seconds:.0f} s, the slowest {slowest}')
  peak = throwing.peak_mib()
  write(f'{sum(tally.values()):,} messages, at most {peak:.0f} MiB')
