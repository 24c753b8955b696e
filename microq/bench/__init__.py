"""Measuring a running system from outside: its rates, its memory, what its guarantees cost, and two queues compared."""
