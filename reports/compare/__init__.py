"""Two results files side by side: what became better, worse, wrong, or can't be told."""
