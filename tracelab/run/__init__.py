"""From a config to a finished run: wiring, pool, loop, costs."""
