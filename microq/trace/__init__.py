"""The journeys of messages, from the folder of a run alone: its log files and its timeline.

The functions read files and may take seconds: call them in a thread if an event loop runs.
"""

from microq.trace.journey import Step, Trail, find, ids_like
from microq.trace.messages import Row, Trails, newest, search, with_text

__all__ = ["Row", "Step", "Trail", "Trails", "find", "ids_like", "newest", "search", "with_text"]
