"""The studies: pure plug-ins that ask items and conclude findings."""
