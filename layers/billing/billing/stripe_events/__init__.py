"""Stripe's events and objects, read, ordered and compared: pure functions over the domain, without I/O."""
