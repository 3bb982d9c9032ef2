"""Use cases that combine the pure rules with the adapters: events, checkout, reconciliation."""
