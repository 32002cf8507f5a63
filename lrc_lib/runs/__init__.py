"""Runs: what to train (spec), where it is kept (store), how it is trained (run)."""
