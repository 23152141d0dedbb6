"""FedMask: masks without chance, m = [score >= 0].

    server: theta = sigmoid(s0), s0 ~ N(0, 1)
    round t: client k:  s = logit(theta); for every minibatch:
                            m = [s >= 0];  s <- optimiser(s, gradient of the
                            loss at weights * m, straight through)
                        sends m_k = [s >= 0]
             server:    theta = mean_k m_k, clipped to [clip, 1 - clip]

Li, Sun, Zeng, Zhang, Li, Chen, "FedMask: joint computation and communication-
efficient personalized federated learning via heterogeneous masking", SenSys
2021, as a baseline for one global model.

Deviations.  No one-shot pruning and no personal masks.  theta is clipped: where
all clients agree the logit would be infinite and the mask could never change.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedpm_jax import masks
from fedpm_jax.algorithms import base, local
from fedpm_jax.models.network import Network


class ServerState(NamedTuple):
  """uint16 `[d]`: theta = q / 65536, the share of masks that had a one."""

  q: jax.Array


class ServerInfo(NamedTuple):
  """Reported: the mean of theta, where the next round starts."""

  theta_mean: jax.Array


def fedmask(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  theta_clip: float = 0.25,
  score_std: float = 1.0,
) -> base.Algorithm:
  """FedMask as the functions of an `Algorithm`.

  Args:
    network: the model and its frozen weights.
    optimizer: of the scores.
    theta_clip: theta is kept within [theta_clip, 1 - theta_clip] at the server,
      in (0, 0.5): how far from a change of mind a client starts at most.
    score_std: of s0 ~ N(0, std^2).

  Raises:
    ValueError: a constant outside the range above.
  """
  if not 0 < theta_clip < 0.5:
    raise ValueError(f'theta_clip must lie in (0, 0.5), got {theta_clip}.')
  if not score_std > 0:
    raise ValueError(f'score_std must be positive, got {score_std}.')
  shape = (network.layout.num_parameters,)

  def init(key):
    scores = score_std * jax.random.normal(key, shape)
    return masks.quantise(jax.nn.sigmoid(scores))

  def through_sigmoid(scores):
    theta = jax.nn.sigmoid(scores)
    return theta * (1 - theta)

  return deterministic(
    network,
    optimizer,
    init=init,
    scores_of=masks.scores_of,
    mask_of=lambda scores: scores >= 0,
    slope=through_sigmoid,
    theta_clip=theta_clip,
  )


def deterministic(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  init: Callable[[jax.Array], jax.Array],
  scores_of: Callable[[jax.Array], jax.Array],
  mask_of: Callable[[jax.Array], jax.Array],
  slope: Callable[[jax.Array], jax.Array],
  theta_clip: float,
) -> base.Algorithm:
  """Training of scores whose mask is a function of them, masks averaged.

  Args:
    network: the model and its frozen weights.
    optimizer: of the scores.
    init: (key) -> the first q, uint16 `[d]`.
    scores_of: (q) -> the scores that a client starts from, float32 `[d]`.
    mask_of: (scores) -> mask, bool `[d]`.
    slope: (scores) -> what the straight-through gradient has instead of the
      derivative of the mask by the scores, float32 `[d]`.
    theta_clip: see `fedmask`.
  """
  layout = network.layout

  def client_update(received, batches, client_state, step_keys, uplink_key):
    del uplink_key  # Whatever it is, training is the same.
    weights, scores = received

    def gradient(scores, inputs, labels, valid, step_key):
      apply = network.in_training(step_key)
      params = masks.unravel(layout, weights * mask_of(scores))
      loss = lambda p: local.mean_loss(apply, p, inputs, labels, valid)
      grads, sums = jax.grad(loss, has_aux=True)(params)
      return masks.ravel(layout, grads) * weights * slope(scores), sums

    scores, _, sums = local.train(
      gradient, optimizer, scores, optimizer.init(scores), batches, step_keys
    )
    return mask_of(scores), client_state, sums

  def server_update(state, total, count, round_idx):
    del state, round_idx
    theta = jnp.clip(total / count, theta_clip, 1 - theta_clip)
    return ServerState(masks.quantise(theta)), ServerInfo(jnp.mean(theta))

  def eval_params(state, key):
    weights = network.weights()
    return {
      'sampled': weights * masks.sample(key, state.q),
      'mean': weights * masks.theta_of(state.q),
      'threshold': weights * mask_of(scores_of(state.q)),
    }

  def model(state, key):
    del key
    return mask_of(scores_of(state.q))

  return base.Algorithm(
    payload='theta',
    update='mask',
    aggregated='mask',
    init=lambda key: (ServerState(init(key)), ()),
    broadcast=lambda state: state.q,
    receive=lambda q: (network.weights(), scores_of(q)),
    client_update=client_update,
    server_update=server_update,
    depends_only_on_round=lambda round_idx: True,
    eval_params=eval_params,
    model=model,
  )
