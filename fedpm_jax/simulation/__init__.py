"""A whole round on one machine: all clients, all messages, one meter."""
