"""The authors' FedPM in PyTorch, one client after another, as it stands.

https://github.com/BerivanIsik/sparse-random-networks imports three modules that
its repository does not have (DRIVE, EDEN, a pruned model).  FedPM uses nothing
of them; they are replaced by empty ones here.
"""

import pathlib
import sys
import types

import protocol

GET = (
  'pip install torch, git clone'
  ' https://github.com/BerivanIsik/sparse-random-networks, --official=CHECKOUT'
)
ABSENT = ('drive', 'eden', 'eden.eden', 'models.pruned_layers')


class _Empty(types.ModuleType):
  """A module in which every name is there, as None."""

  __all__ = ()
  __path__ = ()

  def __getattr__(self, name):
    return None


def main() -> None:
  task = protocol.task()
  source = pathlib.Path(task['checkout'] or '') / 'src'
  try:
    import torch

    if not (source / 'fedssm').is_dir():
      raise ImportError
  except ImportError:
    protocol.missing(GET)
  sys.path.insert(0, str(source))
  for name in ABSENT:
    sys.modules[f'fedssm.{name}'] = _Empty(f'fedssm.{name}')
  from fedssm.client import Client
  from fedssm.server import Server

  torch.manual_seed(0)
  if task['threads']:
    torch.set_num_threads(task['threads'])
  count = task['steps'] * task['batch']
  params = {
    'simulation': {'n_clients': task['clients'], 'verbose': 0},
    'model': {
      'id': task['model'],
      'mode': 'mask',
      'init': 'ME_init',
      'local_epochs': 1,
      'optimizer': {},
    },
  }
  height, width, channels = task['image_shape']
  server = Server(params, 'cpu')
  clients = []
  for _ in range(task['clients']):
    images = torch.randn(count, channels, height, width)
    labels = torch.randint(0, task['classes'], (count,))
    loader = torch.utils.data.DataLoader(
      torch.utils.data.TensorDataset(images, labels),
      batch_size=task['batch'],
      shuffle=True,
    )
    weights = server.global_model.get_weights()
    clients.append(Client(params, loader, weights, 'cpu'))
  server.set_client_list(clients)
  everyone = list(range(task['clients']))

  def steps():
    for client in clients:
      client.train_local(0)

  def a_round():
    server.broadcast_model(everyone)
    steps()
    server.aggregate_gradients(everyone, 0)

  run = {'steps': steps, 'round': a_round}[task['what']]
  run()
  run()
  protocol.serve(run)


if __name__ == '__main__':
  main()
