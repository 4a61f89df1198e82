"""Benchmarks: the work as data, the rivals, the run, the report."""
