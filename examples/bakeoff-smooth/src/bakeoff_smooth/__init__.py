"""Two variants for bakeoff: Gaussian attention and the SmeLU activation."""
