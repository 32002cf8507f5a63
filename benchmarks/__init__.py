"""What is fast, against what, measured in one run. See `python -m benchmarks.step --help`."""
