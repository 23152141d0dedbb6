"""Randomness as a function of (seed, purpose, round, client)."""
