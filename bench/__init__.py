"""What `make bench` measures: docs/explanation/performance.md says what the figures mean."""
