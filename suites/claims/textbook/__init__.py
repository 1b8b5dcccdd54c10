"""The textbook's statements, one file each; found by walking, and brought as a plugin's are."""
