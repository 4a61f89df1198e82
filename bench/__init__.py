"""Benchmarks: the work as data, rivals, the run, its report."""
