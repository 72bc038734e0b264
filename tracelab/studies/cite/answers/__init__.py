"""Where the outcome of a mask is what the model answers, and not how likely a given text is."""
