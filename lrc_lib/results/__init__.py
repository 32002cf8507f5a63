"""Results: statistics, systems compared, claims and verdicts."""
