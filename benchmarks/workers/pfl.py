"""pfl-research's federated averaging of a PyTorch model, in one process.

Its own way to use more than one process is one GPU, or one machine, for each.
"""

import sys

import protocol
import small_cnn

GET = "pip install 'pfl[pytorch]'"
FOREVER = 10_000  # rounds; the process ends when it gets no further turn


def main() -> None:
  sys.path.pop(0)  # This folder has modules of the peers' names.
  task = protocol.task()
  try:
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel
  except ImportError:
    protocol.missing(GET)

  class Network(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.layers = small_cnn.network(task)

    def forward(self, x):
      return self.layers(x)

    def loss(self, x, y):
      return torch.nn.functional.cross_entropy(self(x), y)

    def metrics(self, x, y):
      return {}  # Asked for in the very first round, which does not count.

  clients = {i: small_cnn.examples(task) for i in range(task['clients'])}
  users = FederatedDataset.from_slices(
    clients, get_user_sampler('minimize_reuse', list(clients))
  )
  turn = protocol.Turn()

  class InTurn(TrainingProcessCallback):
    def after_central_iteration(self, metrics, model, *, central_iteration):
      del metrics, model
      if central_iteration > 1:  # the first two are for getting ready
        turn.done()
      if central_iteration > 0:
        turn.wait()
      return False, Metrics()

  network = Network()
  FederatedAveraging().run(
    NNAlgorithmParams(
      central_num_iterations=FOREVER,
      evaluation_frequency=FOREVER,
      train_cohort_size=task['clients'],
      val_cohort_size=0,
    ),
    SimulatedBackend(users, users),
    PyTorchModel(
      network,
      torch.optim.SGD,
      torch.optim.SGD(network.parameters(), 1.0),
    ),
    NNTrainHyperParams(
      local_num_epochs=1,
      local_learning_rate=0.1,
      local_batch_size=task['batch'],
    ),
    callbacks=[InTurn()],
    send_metrics_to_platform=False,
  )


if __name__ == '__main__':
  main()
