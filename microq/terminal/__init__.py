"""The views in a terminal: each function takes data and returns a rich renderable."""
