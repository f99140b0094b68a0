"""Benchmarks: ratios of the product's time and memory to baselines', measured in the same run."""
