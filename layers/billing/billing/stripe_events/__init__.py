"""Stripe's events and objects: parsing, ordering, matching and comparison, as pure functions without I/O."""
