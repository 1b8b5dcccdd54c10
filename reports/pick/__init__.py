"""What to take on this machine, from measured results, and what was ruled out by what."""
