"""The command line: commands, plans, execution of notebooks, the report."""
