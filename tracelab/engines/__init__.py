"""Engines: model in, token ids and log-probabilities out. `base` is the contract.

`registry` lists them; `kind` is what is known of one before it is built.
"""
