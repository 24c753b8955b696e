"""The journeys of messages, read from the folder of a run alone: its log files and its timeline.

Everything here reads files and may take a moment: whoever has an event loop calls it in a thread.
"""

from microq.trails.journey import Step, Trail, find, ids_like
from microq.trails.rows import Row, Trails, newest, search

__all__ = ["Row", "Step", "Trail", "Trails", "find", "ids_like", "newest", "search"]
