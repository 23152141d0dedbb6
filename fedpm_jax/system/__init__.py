"""The machine: cores, allocator, what XLA needs to be told, files."""
