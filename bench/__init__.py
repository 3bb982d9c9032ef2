"""What `make bench` measures: docs/performance.md says what the figures mean."""
