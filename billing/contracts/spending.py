"""What was spent, as it crosses the door."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpendView:
    """Of a group of rentals since a moment, in micro-units, tax on use included.

    charged: settled lines without what the platform bore. running: what ran since and is not
    charged yet. held: for what runs next. burn_micro_h: what they cost per hour now.
    """

    charged_micro: int = 0
    running_micro: int = 0
    held_micro: int = 0
    burn_micro_h: int = 0

    @property
    def used_micro(self) -> int:
        """What is spent by now, to the second."""
        return self.charged_micro + self.running_micro

    @property
    def committed_micro(self) -> int:
        """What is spent or held: a hold pays what runs, so only the larger of the two counts."""
        return self.charged_micro + max(self.running_micro, self.held_micro)
