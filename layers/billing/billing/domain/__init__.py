"""Business rules without I/O: standard library only, immutable values, the current time as an argument."""
