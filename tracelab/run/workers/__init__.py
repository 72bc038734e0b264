"""Workers of a run: Ray and its processes, and which of them is given what."""
