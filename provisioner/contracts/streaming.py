"""What grants (kernel.grants) allow at the streams process, and the address of each."""

from __future__ import annotations

LOGS_FOLLOW, LOGS_TAIL, TERMINAL = "logs.follow", "logs.tail", "terminal"
CHANGES = "changes.follow"
STREAM_PATHS = {
    CHANGES: "/streams/changes",
    LOGS_FOLLOW: "/streams/logs",
    LOGS_TAIL: "/streams/tail",
    TERMINAL: "/streams/terminal",
}
