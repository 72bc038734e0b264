"""What everything is said in: traces, items, observations, findings. Imports nothing of ours."""
