"""One file a benchmark: its options, and what it calls. Imports nothing heavy until it runs."""
