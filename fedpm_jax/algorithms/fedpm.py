"""FedPM: federated probabilistic mask training.

The weights of the network stay at their random values.  Client k starts from
the server's probabilities, trains scores s by sampling a fresh mask for every
minibatch, and sends one mask m_k ~ Bernoulli(theta_k).  The server keeps a Beta
distribution of every mask bit and broadcasts its mode:

    server: theta = sigmoid(s0), s0 ~ N(0, 1);  alpha = beta = lambda_0
    round t: client k:  s = logit(theta); for every minibatch:
                            theta = sigmoid(s);  m ~ Bernoulli(theta)
                            s <- optimiser(s, gradient of the loss at weights*m)
                        theta_k = sigmoid(s);  m_k ~ Bernoulli(theta_k)
             server:    if the prior's schedule says so: alpha = beta = lambda_0
                        alpha += sum_k m_k;   beta += K - sum_k m_k
                        theta = (alpha - 1) / (alpha + beta - 2)

The compressor `bernoulli` draws the mask m_k that a client sends.  The final
model is the seed and one mask: under one bit per parameter.

Reference: Isik, Pase, Gunduz, Weissman, Zorzi, "Sparse random networks for
communication-efficient federated learning", ICLR 2023, algorithms 1 and 2.

Deviations.  Official code: masks there become {0.01, 0.99} before they are
averaged, so that n ones of K give theta = .01 + .98 n / K; `soft_counts` does
the same.  Else n / K is clipped at the server (`theta_clip`): one client of ten
gives .100 then, and .108 there.  Paper: theta travels as the integer q, theta = q / 65536, so that all
machines sample alike.

With `bit_price` the local loss gets + bit_price R, where R is the divergence
(1 / d) sum_i KL(theta_k,i || theta_i) in bits per parameter.  This is not in the
paper.  R is what a client's mask costs on the wire where the codec knows theta,
exactly with relative-entropy coding, and in effect with `dither`, which pays for
each theta that moved.  So a client moves theta only where that lowers its loss
by more than the price of the bits.  The server's theta is then the prior of a
mean-field posterior over masks, at a temperature.  The price is one of bits per
parameter, and of the loss of a mean example: so it has neither d nor the number
of examples or clients in it (docs/results.md, "One price for every size").

With `regularizer` the local loss gets + (lambda / d) sum_i theta_i, which makes
masks sparser: Mestoukirdi, Esrafilian, Gesbert, Li, Gresset, "Sparser random
networks exist: enforcing communication-efficient federated learning via
regularization", arXiv 2309.10834, 2023.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedpm_jax import masks
from fedpm_jax.algorithms import base, local
from fedpm_jax.models.network import Network


class ServerState(NamedTuple):
  """The Beta distribution of every mask bit, and what it was last told as.

  Attributes:
    alpha: float32 `[d]`, lambda_0 plus the ones counted since the last reset.
    beta: float32 `[d]`, lambda_0 plus the zeros.
    q: uint16 `[d]`, theta = q / 65536, what the next round starts from.
  """

  alpha: jax.Array
  beta: jax.Array
  q: jax.Array


class ServerInfo(NamedTuple):
  """Reported: the mean of theta, where the next round starts."""

  theta_mean: jax.Array


def reset_schedule(
  kind: str, *, every: int = 1, participation: float = 1.0
) -> Callable[[jax.Array], jax.Array]:
  """When the prior is reset: a function of the 0-based round to bool.

  Args:
    kind: 'every' (each `every` rounds; 1 is the official code),
      'participation' (each round(M / K) rounds, the paper's rule), 'warmup'
      (each round before round 15, then every fifth: commented out in the
      official code) or 'never'.
    every: for 'every', at least 1.
    participation: K / M, for 'participation'.

  Raises:
    ValueError: unknown kind, or `every` below 1.
  """
  if every < 1:
    raise ValueError(f'prior_reset_every must be at least 1, got {every}.')
  period = max(1, round(1 / participation))
  schedules = {
    'every': lambda t: t % every == 0,
    'participation': lambda t: t % period == 0,
    'warmup': lambda t: (t < 15) | (t % 5 == 0),
    'never': lambda t: t < 0,
  }
  if kind not in schedules:
    raise ValueError(
      f'prior_schedule must be one of {sorted(schedules)}, got {kind!r}.'
    )
  return schedules[kind]


def fedpm(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  bit_price: float = 0.0,
  regularizer: float = 0.0,
  estimator: str = 'identity',
  score_std: float = 1.0,
  lambda_0: float = 1.0,
  theta_clip: float = 0.01,
  soft_counts: bool = False,
  prior_schedule: str = 'every',
  prior_reset_every: int = 1,
  persistent_optimizer: bool = False,
  participation: float = 1.0,
) -> base.Algorithm:
  """FedPM as the functions of an `Algorithm`.

  Args:
    network: the model and its frozen weights.
    optimizer: of the scores; Adam at 0.1 in the official code.
    bit_price: how much of the loss a bit per parameter of divergence from the
      server's theta costs, at least 0; 0 is FedPM.
    regularizer: lambda, at least 0; 0 is FedPM.
    estimator: straight-through, a key of `masks.ESTIMATORS`: 'identity' (the
      paper) or 'official'.
    score_std: of s0 ~ N(0, std^2); 0 starts every theta at one half.
    lambda_0: the prior's alpha = beta, at least 1 so that the mode exists.
    theta_clip: theta is kept within [theta_clip, 1 - theta_clip] at the server,
      in [0, 0.5).
    soft_counts: whether a bit counts as theta_clip or 1 - theta_clip (official
      code), so that nothing needs to be clipped.
    prior_schedule: when alpha and beta return to lambda_0; see
      `reset_schedule`.
    prior_reset_every: for the schedule 'every', in rounds.
    persistent_optimizer: whether a client keeps its optimiser's state between
      rounds (official code) or starts afresh.
    participation: K / M.

  Raises:
    ValueError: a constant outside the range above.
  """
  _check(bit_price, regularizer, estimator, score_std, lambda_0, theta_clip)
  reset_prior = reset_schedule(
    prior_schedule, every=prior_reset_every, participation=participation
  )
  layout = network.layout
  shape = (layout.num_parameters,)

  def init(key):
    scores = score_std * jax.random.normal(key, shape)
    prior = jnp.full(shape, lambda_0, jnp.float32)
    q = masks.quantise(jax.nn.sigmoid(scores))
    tensors = masks.unravel(layout, scores)
    fresh = optimizer.init(tensors) if persistent_optimizer else ()
    return ServerState(prior, prior, q), fresh

  def receive(q):
    # Tensor by tensor: a flat vector would be cut and joined in every step.
    flat = network.weights(), masks.scores_of(q)
    return tuple(masks.unravel(layout, vector) for vector in flat)

  def client_update(received, batches, client_state, step_keys, uplink_key):
    del uplink_key  # Whatever it is, training is the same.
    weights, scores = received
    gradient = _gradient_of_scores(network, weights, estimator, regularizer)
    if bit_price:
      nats = layout.num_parameters * math.log(2)  # One bit of each parameter.
      gradient = _with_prior(gradient, scores, bit_price / nats)
    state = client_state if persistent_optimizer else optimizer.init(scores)
    scores, state, sums = local.train(
      gradient, optimizer, scores, state, batches, step_keys
    )
    scores = masks.ravel(layout, scores)
    update = masks.quantise(jax.nn.sigmoid(scores))
    return update, state if persistent_optimizer else (), sums

  def server_update(state, total, count, round_idx):
    ones = total.astype(jnp.float32)
    if soft_counts:
      ones = theta_clip * count + (1 - 2 * theta_clip) * ones
    reset = reset_prior(round_idx)
    alpha = jnp.where(reset, lambda_0, state.alpha) + ones
    beta = jnp.where(reset, lambda_0, state.beta) + (count - ones)
    theta = (alpha - 1) / (alpha + beta - 2)
    theta = jnp.clip(theta, theta_clip, 1 - theta_clip)
    state = ServerState(alpha, beta, masks.quantise(theta))
    return state, ServerInfo(jnp.mean(theta))

  return base.Algorithm(
    payload='theta',
    update='theta',
    aggregated='mask',
    init=init,
    broadcast=lambda state: state.q,
    receive=receive,
    client_update=client_update,
    server_update=server_update,
    depends_only_on_round=lambda round_idx: bool(reset_prior(round_idx)),
    eval_params=functools.partial(_networks, network),
    model=lambda state, key: masks.sample(key, state.q),
  )


def _gradient_of_scores(
  network: Network, weights: Any, estimator: str, regularizer: float
) -> local.Gradient:
  """The gradient of a minibatch's loss by the scores.

  Args:
    network: whose loss it is.
    weights: the frozen ones, a tree.
    estimator: see `fedpm`.
    regularizer: see `fedpm`.
  """

  def gradient(scores, inputs, labels, valid, step_key):
    theta = jax.tree.map(jax.nn.sigmoid, scores)
    q = jax.tree.map(masks.quantise, theta)
    params = jax.tree.map(jnp.multiply, weights, masks.sample(step_key, q))
    apply = network.in_training(step_key)
    loss = lambda p: local.mean_loss(apply, p, inputs, labels, valid)
    grads, sums = jax.grad(loss, has_aux=True)(params)
    grads = masks.scores_gradient(grads, weights, theta, estimator=estimator)
    if regularizer:
      penalty = regularizer / network.layout.num_parameters
      add = lambda gradient, t: gradient + penalty * t * (1 - t)
      grads = jax.tree.map(add, grads, theta)
    return grads, sums

  return gradient


def _with_prior(
  gradient: local.Gradient, prior: Any, weight: float
) -> local.Gradient:
  """Adds the gradient of weight * sum KL(theta || theta of the prior).

  Of one bit it is weight (s - s_prior) theta (1 - theta), by the score s.

  Args:
    gradient: of the loss.
    prior: scores, a tree.
    weight: lambda, per nat.
  """

  def penalised(scores, *batch):
    grads, sums = gradient(scores, *batch)

    def add(g, s, s_prior):
      theta = jax.nn.sigmoid(s)
      return g + weight * (s - s_prior) * theta * (1 - theta)

    return jax.tree.map(add, grads, scores, prior), sums

  return penalised


def _networks(
  network: Network, state: ServerState, key: jax.Array
) -> dict[str, jax.Array]:
  """The networks that theta stands for, each under its name, `[d]`."""
  weights = network.weights()
  return {
    'sampled': weights * masks.sample(key, state.q),
    'mean': weights * masks.theta_of(state.q),
    'threshold': weights * (state.q >= masks.SCALE // 2),
  }


def _check(
  bit_price: float,
  regularizer: float,
  estimator: str,
  score_std: float,
  lambda_0: float,
  theta_clip: float,
) -> None:
  """Raises ValueError for a constant outside the range that `fedpm` states."""
  if lambda_0 < 1:
    raise ValueError(f'lambda_0 must be at least 1, got {lambda_0}.')
  if not 0 <= theta_clip < 0.5:
    raise ValueError(f'theta_clip must lie in [0, 0.5), got {theta_clip}.')
  if score_std < 0:
    raise ValueError(f'score_std must not be negative, got {score_std}.')
  for name, value in (
    ('bit_price', bit_price),
    ('regularizer', regularizer),
  ):
    if not value >= 0:
      raise ValueError(f'{name} must be at least 0, got {value}.')
  if estimator not in masks.ESTIMATORS:
    raise ValueError(
      f'estimator must be one of {sorted(masks.ESTIMATORS)}, got {estimator!r}.'
    )
