"""Faults of the links between the processes; each says `needs_links`, and acts through `Arena.links`."""
