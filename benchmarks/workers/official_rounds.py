"""Rounds of the authors' FedPM on given data: a line of JSON a round.

The task is that of `protocol.task`: checkout, model, epochs, batch, rounds,
seed, device, and `data`, an .npz file with images uint8 `[K, n, H, W, C]`,
labels `[K, n]`, and a test set, as `parity.py` writes it.
"""

import json
import time

import numpy as np
import official_code
import protocol

TEST_BATCH = 128  # Their evaluation draws a fresh mask for each batch.


def main() -> None:
  task = protocol.task()
  Client, Server = official_code.load(task['checkout'])
  import parity_figures
  import torch

  torch.manual_seed(task['seed'])
  np.random.seed(task['seed'])  # noqa: NPY002 (theirs)
  if task['threads']:
    torch.set_num_threads(task['threads'])
  device = task['device']
  data = np.load(task['data'])
  params = official_code.params(
    task['model'], clients=len(data['images']), epochs=task['epochs']
  )

  def tensors(images, labels):
    images = torch.tensor(images).permute(0, 3, 1, 2) / 255
    return torch.utils.data.TensorDataset(
      (images - 0.5) / 0.5, torch.tensor(labels).long()
    )

  server = Server(params, device)
  clients = []
  for images, labels in zip(data['images'], data['labels'], strict=True):
    loader = torch.utils.data.DataLoader(
      tensors(images, labels), batch_size=task['batch'], shuffle=True
    )
    weights = server.global_model.get_weights()
    clients.append(Client(params, loader, weights, device))
  server.set_client_list(clients)
  everyone = list(range(len(clients)))
  test = torch.utils.data.DataLoader(
    tensors(data['test_images'], data['test_labels']), batch_size=TEST_BATCH
  )
  network = server.global_model.model

  def theta():
    masks = [
      v for k, v in server.global_model.get_weights().items() if 'mask' in k
    ]
    return torch.sigmoid(torch.cat([m.flatten() for m in masks])).cpu().numpy()

  # The masks that are uploaded, before the server averages them.
  uploaded = []
  upload = Client.upload_mask

  def keep(client, n_samples):
    result = upload(client, n_samples)
    values = [v.flatten() for k, v in result[0].items() if 'mask' in k]
    uploaded.append((torch.cat(values) > 0.5).cpu().numpy())
    return result

  Client.upload_mask = keep
  # Their `view` of a convolution's output fails on a CPU, where it has another
  # order in memory and no gradient makes a copy; `reshape` is the same.
  view = torch.Tensor.view

  def accuracy():
    torch.Tensor.view = torch.Tensor.reshape
    hits = total = 0
    with torch.no_grad():
      for images, labels in test:
        logits = network(images.to(device), ths=None)
        hits += int((logits.argmax(1).cpu() == labels).sum())
        total += len(labels)
    torch.Tensor.view = view
    return hits / total

  for round_idx in range(task['rounds']):
    before, start = theta(), time.perf_counter()
    server.broadcast_model(everyone)
    for client in clients:
      client.train_local(round_idx)
    server.aggregate_gradients(everyone, round_idx)
    seconds = time.perf_counter() - start
    row = parity_figures.row(before, np.array(uploaded), theta())
    uploaded.clear()
    row |= {'accuracy': accuracy(), 'seconds': seconds}
    print('row', json.dumps(row), flush=True)


if __name__ == '__main__':
  main()
