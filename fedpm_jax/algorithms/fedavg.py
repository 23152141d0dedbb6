"""FedAvg: clients train the weights themselves and send what changed.

    server: w from the seed, Kaiming normal kernels, zero biases
    round t: client k:  w_k = w; local steps on w_k;  delta_k = w_k - w
             server:    w += server_learning_rate * mean_k decoded(delta_k)

With a lossy compressor of delta this is the common frame of TernGrad, QSGD,
DRIVE and EDEN.  With server_learning_rate 1 and no compression it is FedAvg:
McMahan, Moore, Ramage, Hampson, Agueera y Arcas, "Communication-efficient
learning of deep networks from decentralized data", AISTATS 2017.

Deviations.  Every client counts the same, as the masks of FedPM do, unless
`aggregation.weights` says that it counts by its examples, as McMahan et al. have
it.  The optimiser is any of optax and starts afresh every round.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedpm_jax import masks
from fedpm_jax.algorithms import base, local
from fedpm_jax.models.network import Network


class ServerState(NamedTuple):
  """The weights, float32 `[d]`."""

  params: jax.Array


class ServerInfo(NamedTuple):
  """Reported: the norm of the round's step."""

  step_norm: jax.Array


def fedavg(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  server_learning_rate: float = 1.0,
) -> base.Algorithm:
  """FedAvg as the functions of an `Algorithm`.

  Args:
    network: the model; its weights are where training starts, so they are to be
      config.weights.kind = 'normal' with gain sqrt(2) (Kaiming).
    optimizer: of the weights, local.
    server_learning_rate: positive; 1 averages.

  Raises:
    ValueError: a constant outside the range above.
  """
  if not server_learning_rate > 0:
    raise ValueError(
      f'server_learning_rate must be positive, got {server_learning_rate}.'
    )

  def init(key):
    del key  # The weights are those of the network's seed.
    return ServerState(initial_params(network)), ()

  def broadcast(state):
    return state.params

  def client_update(received, batches, client_state, step_keys, uplink_key):
    del uplink_key  # Whatever it is, training is the same.
    delta, sums = local_delta(network, optimizer, received, batches, step_keys)
    return delta, client_state, sums

  def server_update(state, total, count, round_idx):
    del round_idx
    step = (server_learning_rate / count) * total
    return ServerState(state.params + step), ServerInfo(jnp.linalg.norm(step))

  def eval_params(state, key):
    del key
    return {'mean': state.params}

  def model(state, key):
    del key
    return state.params

  return base.Algorithm(
    payload='float32',
    update='delta',
    aggregated='delta',
    init=init,
    broadcast=broadcast,
    receive=functools.partial(receive, network),
    client_update=client_update,
    server_update=server_update,
    depends_only_on_round=lambda round_idx: False,
    eval_params=eval_params,
    model=model,
  )


def initial_params(network: Network) -> jax.Array:
  """The network's random kernels and zero biases, float32 `[d]`."""
  names = [name.rpartition('/')[2] for name in network.layout.names]
  return network.weights() * np.repeat(
    np.array([name != 'bias' for name in names], np.float32),
    network.layout.sizes,
  )


def receive(
  network: Network, params: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
  """Where local training starts: flat, `[d]`, and tensor by tensor."""
  return params, masks.unravel(network.layout, params)


def local_delta(
  network: Network,
  optimizer: optax.GradientTransformation,
  received: tuple[jax.Array, dict[str, Any]],
  batches: local.ClientBatches,
  step_keys: jax.Array,
) -> tuple[jax.Array, local.Sums]:
  """What a client's S local steps change in the weights, `[d]`, and its sums.

  `received` is where they start, see `receive`.
  """
  start, params = received

  def gradient(params, inputs, labels, valid, step_key):
    apply = network.in_training(step_key)
    loss = lambda p: local.mean_loss(apply, p, inputs, labels, valid)
    return jax.grad(loss, has_aux=True)(params)

  # Tensor by tensor: a flat vector would be cut and joined in every step.
  trained, _, sums = local.train(
    gradient, optimizer, params, optimizer.init(params), batches, step_keys
  )
  return masks.ravel(network.layout, trained) - start, sums
