"""Break the system on purpose and judge what it did: history, judge, faults, scenarios."""
