"""Lossy, in JAX, one client at a time: from an update to the wire's symbols."""

from fedpm_jax.compressors import bernoulli, relative_entropy

# A new compressor is a file and a row.
COMPRESSORS = {
  'bernoulli': bernoulli.bernoulli,
  'relative_entropy': relative_entropy.relative_entropy,
}
