"""What is fast, against what, both measured in one run: `python -m benchmarks.NAME`."""
