"""Experiment -> Plan: points, tasks and fingerprints, without running anything."""
