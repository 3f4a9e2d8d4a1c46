"""Benchmarks: ``python -m benchmarks NAME [--json FILE]`` measures one claim and prints a table with its figures."""
