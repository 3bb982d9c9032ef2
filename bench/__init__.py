"""Benchmark (`make bench`). docs/explanation/performance.md explains the figures."""
