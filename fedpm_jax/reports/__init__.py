"""What is said of runs: records, summaries, tables, pictures."""
