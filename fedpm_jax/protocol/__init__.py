"""What travels and who holds what: a client's half, a server's half."""
