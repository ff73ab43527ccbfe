"""Drives any runner: task metric and drift in this process, latency and memory in a process per model."""
