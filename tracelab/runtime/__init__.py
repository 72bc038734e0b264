"""Planning, running and estimating until done: the shells around the pure core."""
