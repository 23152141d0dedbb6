"""Flower's simulation (Ray, one actor a core) of PyTorch clients, FedAvg.

The server application waits for its turn before each round.
"""

import sys

import protocol
import small_cnn

GET = "pip install torch 'flwr[simulation]'"


def main() -> None:
  sys.path.pop(0)  # This folder has modules of the peers' names.
  task = protocol.task()
  try:
    import flwr
    import ray
    import torch
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg
  except ImportError:
    protocol.missing(GET)
  # Ray's processes do not find this folder's modules.
  ray.cloudpickle.register_pickle_by_value(small_cnn)
  batch = task['batch']
  x, y = small_cnn.examples(task)
  examples = len(x)

  def values(network):
    return [x.detach().numpy() for x in network.parameters()]

  class Client(NumPyClient):
    def __init__(self):
      # The same for all: it must not cost a client's time.
      self.x, self.y = x, y

    def fit(self, parameters, config):
      torch.set_num_threads(1)
      network = small_cnn.network(task)
      with torch.no_grad():
        for mine, new in zip(network.parameters(), parameters, strict=True):
          mine.copy_(torch.from_numpy(new))
      optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
      for i in torch.randperm(examples).split(batch):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(self.x[i]), self.y[i])
        loss.backward()
        optimizer.step()
      return values(network), examples, {}

  def client_fn(context):
    del context
    return Client().to_client()

  def server_fn(context):
    return ServerAppComponents(
      strategy=InTurn(
        fraction_evaluate=0.0,
        min_available_clients=task['clients'],
        initial_parameters=ndarrays_to_parameters(
          values(small_cnn.network(task))
        ),
      ),
      config=ServerConfig(num_rounds=10_000),
    )

  turn = protocol.Turn()

  class InTurn(FedAvg):
    def configure_fit(self, server_round, parameters, client_manager):
      if server_round > 2:  # the first two are for getting ready
        turn.wait()
      return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round, results, failures):
      result = super().aggregate_fit(server_round, results, failures)
      if failures or len(results) != task['clients']:
        raise RuntimeError(f'{len(results)} clients, {failures[:1]}')
      if server_round > 2:
        turn.done()
      return result

  flwr.simulation.run_simulation(
    server_app=ServerApp(server_fn=server_fn),
    client_app=ClientApp(client_fn=client_fn),
    num_supernodes=task['clients'],
    backend_config={'client_resources': {'num_cpus': 1, 'num_gpus': 0.0}},
  )


if __name__ == '__main__':
  main()
