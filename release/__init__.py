"""What is done once a release: the lowest versions tried, and what is in a wheel listed."""
