"""How well ONE network serves each client, from a test set that all share.

Clients have no test sets of their own.  The accuracy of client k is that of the
network on the test set, re-weighted to the labels that the client trains on:

    acc_k = sum_c p_k(c) r_c / sum_c p_k(c),   r_c = correct_c / examples_c

where p_k(c) is the share of class c among the client's training examples.  The
sums are over the classes that the test set has.  A client that holds none of
these has no accuracy, and is left out.

Dimensions: M clients, C classes.
"""

import numpy as np


def of_clients(
  correct: np.ndarray, examples: np.ndarray, label_counts: np.ndarray
) -> np.ndarray:
  """The accuracies of the clients that have one.

  Args:
    correct: integers `[C]`, test examples of each class that are right.
    examples: integers `[C]`, test examples of each class.
    label_counts: integers `[M, C]`, training examples of each client.

  Returns:
    float64 `[at most M]` in [0, 1], in the order of the clients.
  """
  tested = examples > 0
  rates = correct[tested] / examples[tested]
  held = label_counts[:, tested].astype(np.float64)
  held = held[held.sum(axis=1) > 0]
  # No BLAS, whose sums depend on the number of threads.  The counts are whole,
  # so that no sum can be rounded beyond that of a network without mistakes.
  return np.einsum('kc,c->k', held, rates) / held.sum(axis=1)


def metrics(
  correct: np.ndarray, examples: np.ndarray, label_counts: np.ndarray
) -> dict[str, float]:
  """The mean over all clients, and over the worst tenth, at least one of them.

  Args:
    correct: as in `of_clients`; so are the others.
    examples: `[C]`.
    label_counts: `[M, C]`.

  Returns:
    Metrics of a row; none where no client has an accuracy.
  """
  accuracies = np.sort(of_clients(correct, examples, label_counts))
  if not len(accuracies):
    return {}
  worst = accuracies[: max(1, len(accuracies) // 10)]
  return {
    'eval/client_accuracy_mean': float(np.mean(accuracies)),
    'eval/client_accuracy_worst_tenth': float(np.mean(worst)),
  }
