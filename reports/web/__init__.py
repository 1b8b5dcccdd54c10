"""The HTML page: markup of each block, formulas, cards, and the scripts and styles beside it."""
