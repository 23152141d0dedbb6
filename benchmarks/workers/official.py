"""The authors' FedPM in PyTorch, one client after another, as it stands."""

import official_code
import protocol


def main() -> None:
  task = protocol.task()
  Client, Server = official_code.load(task['checkout'])
  import torch

  torch.manual_seed(0)
  if task['threads']:
    torch.set_num_threads(task['threads'])
  count = task['steps'] * task['batch']
  params = official_code.params(
    task['model'], clients=task['clients'], epochs=1
  )
  height, width, channels = task['image_shape']
  device = task.get('device', 'cpu')
  server = Server(params, device)
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
    clients.append(Client(params, loader, weights, device))
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
