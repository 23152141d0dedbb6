"""The network 'cnn' in PyTorch, and one client's random examples."""


def network(task: dict):
  """conv32, conv64, pool, dense128, dense; for the image shape of the task."""
  import torch

  height, width, channels = task['image_shape']
  return torch.nn.Sequential(
    torch.nn.Conv2d(channels, 32, 3, padding='same'),
    torch.nn.ReLU(),
    torch.nn.Conv2d(32, 64, 3, padding='same'),
    torch.nn.ReLU(),
    torch.nn.MaxPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(64 * (height // 2) * (width // 2), 128),
    torch.nn.ReLU(),
    torch.nn.Linear(128, task['classes']),
  )


def examples(task: dict):
  """(images, labels) of a client, batch * steps of them."""
  import torch

  height, width, channels = task['image_shape']
  count = task['batch'] * task['steps']
  images = torch.randn(count, channels, height, width)
  return images, torch.randint(0, task['classes'], (count,))
