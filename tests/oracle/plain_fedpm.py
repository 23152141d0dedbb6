"""FedPM in plain NumPy loops, in the notation of the paper's algorithms 1, 2.

An oracle for the engine and, for the reader, the algorithm without JAX: one
client after another, one minibatch after another, gradients by hand.  Only the
random numbers are the engine's, drawn from the same keys.

The network is a perceptron with one hidden layer, so that its gradient fits in
a few lines.
"""

import jax
import numpy as np

from fedpm_jax.prng import dithers, keys

PURPOSE = keys.Purpose


def sigmoid(s):
  return 1 / (1 + np.exp(-s))


def bernoulli(key, theta):
  """m ~ Bernoulli(theta) by the 16 random bits of each position."""
  u = np.asarray(dithers.bits16(key, theta.size))
  return u < quantise(theta)


def quantise(theta):
  return np.clip(np.round(theta * 65536), 1, 65535)


def loss_gradient(params, shapes, x, y):
  """The gradient of the mean cross-entropy by the parameters, flat.

  Args:
    params: [d], in the order bias 0, kernel 0, bias 1, kernel 1.
    shapes: of these four.
    x: [B, inputs] in [-1, 1].
    y: [B] labels.
  """
  cuts = np.cumsum([np.prod(s) for s in shapes])[:-1]
  b0, w0, b1, w1 = (
    p.reshape(s) for p, s in zip(np.split(params, cuts), shapes, strict=True)
  )
  before = x @ w0 + b0
  hidden = np.maximum(before, 0)
  logits = hidden @ w1 + b1
  p = np.exp(logits - logits.max(1, keepdims=True))
  p /= p.sum(1, keepdims=True)
  delta = (p - np.eye(logits.shape[1])[y]) / len(y)
  back = (delta @ w1.T) * (before > 0)
  grads = back.sum(0), x.T @ back, delta.sum(0), hidden.T @ delta
  return np.concatenate([g.reshape(-1) for g in grads])


def client(
  w, shapes, theta, batches, seed, t, k, *, learning_rate, eps, bit_price=0.0
):
  """Algorithm 2: E local epochs from theta; returns theta_k.

  Args:
    w: frozen weights, [d].
    shapes: of the four tensors.
    theta: what the server broadcast, [d].
    batches: a list of (x, y), None where a step is padding.
    seed: the experiment's.
    t: the round.
    k: the client's id.
    learning_rate: Adam's.
    eps: Adam's.
    bit_price: of the divergence, in bits per parameter.
  """
  s = np.log(theta) - np.log(1 - theta)
  prior = s
  first, second, steps = np.zeros_like(s), np.zeros_like(s), 0
  key = keys.derive(seed, PURPOSE.LOCAL, round_idx=t, client=k)
  for i, batch in enumerate(batches):
    if batch is None:
      continue
    theta = sigmoid(s)
    m = bernoulli(jax.random.fold_in(key, i), theta)
    g = loss_gradient(w * m, shapes, *batch) * w * theta * (1 - theta)
    nats = (s - prior) * theta * (1 - theta)
    g += bit_price * nats / np.log(2) / len(s)
    steps += 1
    first = 0.9 * first + 0.1 * g
    second = 0.999 * second + 0.001 * g**2
    m_hat, v_hat = first / (1 - 0.9**steps), second / (1 - 0.999**steps)
    s = s - learning_rate * m_hat / (np.sqrt(v_hat) + eps)
  return quantise(sigmoid(s)) / 65536


def fedpm(w, shapes, theta, cohorts, *, seed, lambda_0, clip, resets, **adam):
  """Algorithm 1; returns theta [d] after every round.

  Args:
    w: frozen weights, [d].
    shapes: of the four tensors.
    theta: the initial one, [d].
    cohorts: a round's list of (client id, batches), one for each round.
    seed: the experiment's.
    lambda_0: the prior.
    clip: theta stays within [clip, 1 - clip].
    resets: the rounds in which the prior is reset.
    **adam: its learning rate and eps, and `bit_price`.
  """
  alpha = np.full_like(theta, lambda_0)
  beta = np.full_like(theta, lambda_0)
  history = []
  for t, cohort in enumerate(cohorts):
    if t in resets:
      alpha[:], beta[:] = lambda_0, lambda_0
    for k, batches in cohort:
      theta_k = client(w, shapes, theta, batches, seed, t, k, **adam)
      key = keys.derive(seed, PURPOSE.UPLINK, round_idx=t, client=k)
      m_k = bernoulli(key, theta_k)
      alpha += m_k
      beta += 1 - m_k
    theta = (alpha - 1) / (alpha + beta - 2)
    theta = quantise(np.clip(theta, clip, 1 - clip)) / 65536
    history.append(theta)
  return history
