"""What billing means, without I/O: standard library only, frozen values, time passed in as `now`."""
