"""The running system: which processes there are, how one is run, and who supervises them all."""
