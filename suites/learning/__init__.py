"""Small tasks, small models with a variant in its place, and how they are trained."""
