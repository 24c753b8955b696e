"""Measurements of a running system: rates, memory, the cost of its guarantees, and the comparison of two backends."""
