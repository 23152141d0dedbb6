"""A whole round: all clients, all messages, one meter."""
