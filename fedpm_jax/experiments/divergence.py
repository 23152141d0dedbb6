"""Why training has diverged, as far as looking tells.

Labels and the type and range of inputs are checked when a run is built, so that
what is left is how inputs are scaled, the weights, and the learning rate.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax import masks
from fedpm_jax.data.sources import Dataset
from fedpm_jax.experiments.config import Config
from fedpm_jax.models import inputs
from fedpm_jax.models.network import Network

_INPUTS = 64  # that are looked at
_LARGE = 1e4  # outputs of a network that nobody has trained


def cause(
  config: Config,
  dataset: Dataset,
  network: Network,
  params: jax.Array,
) -> str:
  """The likely cause and what to do, in a sentence or two.

  Args:
    config: of the run.
    dataset: some of whose training inputs are looked at.
    network: that was trained.
    params: of the mean network before the first round, `[d]`.
  """
  given = jnp.asarray(_looked_at(dataset.x_train))
  unscaled = inputs.kind(given.dtype, dataset.value_range)
  scaled = inputs.normalise(given, dataset.value_range, unscaled)
  if not np.isfinite(scaled).all():
    return (
      'The inputs are the cause: scaled from value_range ='
      f' {dataset.value_range} to [-1, 1] they are not finite in float32. Give'
      ' inputs and range in other units.'
    )
  outputs = network.apply(masks.unravel(network.layout, params), given)
  largest = float(np.abs(outputs).max())
  if unscaled == 'int32' and not np.isfinite(largest):
    return (
      'The tokens are the likely cause: before any training the network makes'
      f' outputs that are not finite, and the largest token is {given.max()}: an'
      ' nn.Embed gives NaN unless all tokens are below its num_embeddings.'
    )
  if not largest <= _LARGE:
    return (
      'The weights are the cause: before any training the network makes outputs'
      f' of {largest:.3g} of {len(given)} inputs. Lower'
      f' config.weights.gain = {config.weights.gain:g}, or scale the activations'
      ' of a model of your own.'
    )
  optimizer = config.optimizer
  return (
    'The steps are the likely cause: labels and inputs are in their ranges, and'
    f' before training the largest output was {largest:.3g}. Lower'
    f' config.optimizer.learning_rate = {optimizer.learning_rate:g} (of'
    f' {optimizer.name}; of dense methods also server_learning_rate), or see the'
    " optimiser's options."
  )


def _looked_at(given: np.ndarray) -> np.ndarray:
  """Some inputs: the first ones, or those with the largest tokens."""
  if given.dtype != np.int32:
    return given[:_INPUTS]
  largest = given.reshape(len(given), -1).max(1)
  return given[np.argsort(largest)[-_INPUTS:]]
