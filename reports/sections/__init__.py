"""Parts of a report that belong to one suite: a module each, found by walking this package."""
