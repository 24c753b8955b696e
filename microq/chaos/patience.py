"""How long a run waits for what."""

from __future__ import annotations

from dataclasses import dataclass, replace

from microq.config import Config


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each wait of a run may take, in seconds."""

    probe: float = 30.0
    """... the first acknowledgement after a fault; a message that is sent again and again."""
    watch: float = 20.0
    """... the survivors, until every copy is in place again."""
    effect: float = 20.0
    """... what a fault waits for, to prove that it happened."""
    fault: float = 240.0
    """... a fault with all its repetitions."""
    load: float = 300.0
    """... the traffic, from its first message to its last."""
    drain: float = 60.0
    """... the consumers, until the queue is empty."""
    quiet: float = 0.3
    """For how long nothing more must arrive when everything expected is there ..."""
    loss: float = 3.0
    """... and when something is missing: what was in the hands of a consumer may still come."""
    redelivery: float = 3.0
    """... a redelivery, from the end of the visibility timeout until it must have been stored."""

    def for_redelivery(self, config: Config) -> Patience:
        """Return one that waits for what a dead consumer held to be delivered again."""
        return replace(self, loss=max(self.loss, config.queue.visibility_timeout + self.redelivery))
