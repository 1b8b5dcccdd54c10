"""Known faults and traps of torch, tried on this machine."""
