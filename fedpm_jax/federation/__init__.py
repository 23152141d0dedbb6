"""The same FedPM over Flower: real clients, faults, messages from anybody.

The two halves of `fedpm_jax.protocol` make and read all bytes; this room moves
them.  From the bottom up:

    agreement    what a server and a client must have in common
    envelope     a protocol message as a Flower message, checked when it arrives
    node         a client: its examples, its memory, its answer to a round
    exchange     one round's messages out, and the answers back in time
    federated    the server: an `Experiment` whose rounds go over the network
    strategy     both as a Flower Strategy
    client_app, server_app    what Flower starts

Only here is Flower imported: pip install 'fedpm_jax[flower]'.
"""
