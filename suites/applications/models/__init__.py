"""One application a file, each of which defines ``APPLICATION``."""
