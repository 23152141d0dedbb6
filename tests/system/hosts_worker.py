"""One of some processes that tell each other everything; see test_hosts.py."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import several_hosts

from fedpm_jax.system import hosts as hosts_

FLOATS = np.array([[-0.0, np.nan], [np.inf, 3e-45]], np.float32)


def tell(hosts):
  i = hosts.index
  own = np.arange(7)[hosts.share(7)]
  tree = {'a': own.astype(np.int16), 'b': jnp.ones((len(own), 2, 0), bool)}
  same = hosts.copy({'x': FLOATS if i == 0 else FLOATS * 0, 'n': np.int32(i)})
  yield 'who', [hosts.index, hosts.count, hosts.leads]
  yield 'sum', np.asarray(hosts.sum([jnp.full(3, 2**i, jnp.int32)])[0]).tolist()
  rows = hosts.rows(tree)
  yield 'rows', [rows['a'].tolist(), str(rows['a'].dtype), rows['b'].shape]
  yield 'nothing', hosts.rows(())
  yield 'gather', [m.decode() for m in hosts.gather(b'x' * (i * 5))]
  yield 'copy', [np.asarray(same['x']).tobytes().hex(), int(same['n'])]
  hosts.check_same('theta', b'alike', '')
  yield 'ended before', hosts.ended
  try:
    hosts.check_same('theta', b'a%d' % (i // 2), 'Do this.')
  except ValueError as error:
    yield 'check', str(error)
  for error in (FloatingPointError('loss'), KeyError('k')):
    try:
      with hosts.all_or_none():
        if i == 1:
          raise error
    except Exception as found:
      yield type(error).__name__, f'{type(found).__name__}: {found}'
  yield 'ended', hosts.ended


def main():
  hosts_.join(*several_hosts.flags())
  hosts = hosts_.Hosts()
  found = dict(tell(hosts))
  print(json.dumps(found), flush=True)
  if '--dies' in sys.argv:
    if hosts.index == 2:
      hosts_.leave('gone', 9)
    try:
      hosts.gather(b'')
    except hosts_.HostLost as error:
      hosts_.leave(str(error), 7)


if __name__ == '__main__':
  main()
