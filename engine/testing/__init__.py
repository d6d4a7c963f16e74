"""Fakes that ship: servers with known times and known faults, for tests, benchmarks and trying things out."""
