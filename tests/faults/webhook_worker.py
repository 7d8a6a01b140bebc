"""A worker process that is killed with -9 around the sending of a webhook.

Run as a program by test_webhook_kill.py: it wraps the sender that the loop calls, so the product's
code is the very same, and SIGKILLs itself before the request leaves or after its answer arrived,
which is before anything of it was written to the database.
"""

from __future__ import annotations

import os
import signal
import sys

import django


def main() -> None:
    moment = sys.argv[1]  # before | after
    django.setup()
    from marketplace.webhooks import deliver
    from marketplace.webhooks.send import Message, Outcome, send

    def killing(message: Message) -> Outcome:
        if moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = send(message)
        os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    deliver.run(send=killing)


if __name__ == "__main__":
    main()
