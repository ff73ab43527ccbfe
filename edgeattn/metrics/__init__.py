"""Pure functions: task metrics and tensor drift. NumPy only, no clock, no disk, no hidden random state."""
