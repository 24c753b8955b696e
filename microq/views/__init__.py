"""Pictures of the system: snapshots, events and verdicts in, renderables out."""
