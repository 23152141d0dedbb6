"""Examples and who holds them: sources, partition over clients, batch plans."""
