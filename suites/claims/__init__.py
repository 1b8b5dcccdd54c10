"""The textbook held to the test: statements, what decides them, and how they are judged."""
