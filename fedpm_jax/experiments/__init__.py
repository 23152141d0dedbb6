"""From a configuration to runs that are recorded and continue."""
