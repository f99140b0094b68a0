"""Commands, presets, reports and benchmarks."""
