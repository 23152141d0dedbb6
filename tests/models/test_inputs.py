"""What a network is given: scaled images, and rows and tokens as they are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedpm_jax import masks, models
from fedpm_jax.models import inputs
from fedpm_jax.models import network as networks


class Recorder(nn.Module):
  """Tells the types that it is given, and uses the values a little."""

  tell: Callable[[Any], None]

  @nn.compact
  def __call__(self, x):
    self.tell(x)
    x = x.reshape(len(x), -1).astype(jnp.float32)
    return nn.Dense(3)(x)


@pytest.mark.parametrize(
  ('given', 'value_range', 'expected'),
  [
    (np.array([[0, 51, 255]], np.uint8), None, [[-1, -0.6, 1]]),
    (np.array([[2, 3, 4]], np.float32), (2.0, 4.0), [[-1, 0, 1]]),
    (np.array([[2, -3, 4]], np.float32), None, [[2, -3, 4]]),
    (np.array([[2, 3, 70_000]], np.int32), None, [[2, 3, 70_000]]),
  ],
)
def test_scaled_or_as_they_are(given, value_range, expected):
  kind = inputs.kind(given.dtype, value_range)
  got = inputs.normalise(jnp.asarray(given), value_range, kind)
  np.testing.assert_allclose(got, np.array(expected), atol=1e-6)
  assert inputs.dtype_of(value_range, kind) == given.dtype
  one = inputs.given((3,), kind)
  assert (one.shape, one.dtype) == ((1, 3), got.dtype)


@pytest.mark.parametrize(
  ('unscaled', 'dtype', 'expected'),
  [
    ('', 'float32', 'float32'),
    ('', 'bfloat16', 'bfloat16'),
    ('float32', 'bfloat16', 'bfloat16'),
    ('int32', 'float32', 'int32'),
    ('int32', 'bfloat16', 'int32'),  # 257 is no bfloat16.
  ],
)
def test_tokens_stay_integers_and_the_rest_has_the_type_of_activations(
  unscaled, dtype, expected
):
  seen = []
  spec = networks.Spec('own', (4, 2), 3, 0, 'signed_constant', 1.0)
  network = networks.build(
    spec._replace(unscaled=unscaled), module=Recorder(seen.append), dtype=dtype
  )
  params = masks.unravel(network.layout, network.weights())
  seen.clear()
  given = jnp.ones((5, 4, 2), inputs.dtype_of(None, unscaled))
  assert network.apply(params, given).shape == (5, 3)
  assert [(str(x.dtype), x.shape) for x in seen] == [(expected, (5, 4, 2))]


@pytest.mark.parametrize('name', sorted(models.MODELS))
@pytest.mark.parametrize(
  ('shape', 'unscaled', 'message'),
  [
    ((32,), 'float32', r"images .* shape \[B, 32\]\. Rows .*'lenet'"),
    ((32, 32), '', r'images .* \[B, 32, 32\]\. Add .* x\[..., None\]'),
    ((32,), 'int32', r'no tokens, got int32 .*\[B, 32\]: give a module'),
    ((32, 32, 3), 'int32', r'no tokens, got int32 .*\[B, 32, 32, 3\]: give'),
  ],
)
def test_models_of_images_say_so(name, shape, unscaled, message):
  spec = networks.Spec(name, shape, 10, 0, 'signed_constant', 1.0)
  spec = spec._replace(unscaled=unscaled)
  if name == 'lenet' and unscaled != 'int32':
    layout = networks.build(spec).layout
    assert layout.shapes[1] == (int(np.prod(shape)), 300)
    return
  with pytest.raises(ValueError, match=f'This model takes {message}'):
    networks.build(spec)


@pytest.mark.parametrize(
  ('unscaled', 'value_range'),
  [('int64', None), ('uint8', None), ('float32', (0.0, 1.0))],
)
def test_a_wrong_field_is_refused(unscaled, value_range):
  spec = networks.Spec('lenet', (4,), 3, 0, 'signed_constant', 1.0)
  spec = spec._replace(unscaled=unscaled, value_range=value_range)
  with pytest.raises(ValueError, match=r'unscaled must be one of .*, got'):
    networks.build(spec)


def test_a_gradient_goes_past_tokens(rng):
  """Of a lookup: only the rows that are looked up get one."""

  class Lookup(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(2)(nn.Embed(7, 4)(x).mean(1))

  spec = networks.Spec('own', (3,), 2, 0, 'signed_constant', 1.0, None, 'int32')
  network = networks.build(spec, module=Lookup())
  assert dict(
    zip(network.layout.names, network.layout.shapes, strict=True)
  ) == {
    'Dense_0/bias': (2,),
    'Dense_0/kernel': (4, 2),
    'Embed_0/embedding': (7, 4),
  }
  params = masks.unravel(network.layout, network.weights())
  tokens = jnp.array([[0, 5, 5]], jnp.int32)
  loss = lambda p: network.apply(p, tokens)[0, 0]
  gradient = jax.grad(loss)(params)['Embed_0']['embedding']
  assert np.abs(gradient).sum(1).nonzero()[0].tolist() == [0, 5]
  expected = params['Dense_0']['kernel'][:, 0] / 3
  np.testing.assert_allclose(gradient[0], expected, rtol=1e-6)
  np.testing.assert_allclose(gradient[5], 2 * expected, rtol=1e-6)
