"""What is measured, how it is run, and where it is stored."""
