"""The supervisor of a running system: its processes, their start and end, snapshots, and the control socket."""
