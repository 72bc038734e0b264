"""Other projects' numbers, computed as they compute them: one recipe a module. Pure."""
