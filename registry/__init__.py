"""What a variant is, where variants are found, and how one becomes a module."""
