"""The suites that come with bakeoff, each a plugin."""
