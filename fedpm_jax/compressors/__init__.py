"""Lossy, in JAX, one client at a time: from an update to the wire's symbols."""

from collections.abc import Callable

from fedpm_jax.compressors import (
  base,
  bernoulli,
  eden,
  identity,
  mask_delta,
  mrn,
  qsgd,
  randomised_response,
  relative_entropy,
  sign,
  terngrad,
)

# A new compressor is a file and a row: (layout, options) -> compressor.
COMPRESSORS: dict[str, Callable[..., base.Compressor]] = {
  'bernoulli': bernoulli.bernoulli,
  'randomised_response': randomised_response.randomised_response,
  'relative_entropy': relative_entropy.relative_entropy,
  'mask_delta': mask_delta.mask_delta,
  'mask': identity.mask,
  'identity': identity.identity,
  'sign': sign.sign,
  'terngrad': terngrad.terngrad,
  'qsgd': qsgd.qsgd,
  'drive': eden.drive,
  'eden': eden.eden,
  'mrn': mrn.mrn,
}
