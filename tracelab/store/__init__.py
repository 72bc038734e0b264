"""The durable record of runs, and the database that is loaded from it."""
