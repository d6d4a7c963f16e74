"""Execute a plan: what to run, where, in which order, and what becomes of each task."""
