"""The beat table: every loop with its period in seconds and the reason for it.

Each task takes no arguments and is the same code that a wake-up runs; losing a wake-up costs at
most one period. ``expires`` equals the period, so a stopped worker finds no backlog of hints.
"""

from __future__ import annotations

from typing import Any


def _every(task: str, seconds: float) -> dict[str, Any]:
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}


BEAT: dict[str, dict[str, Any]] = {
    # A lost wake-up delays a start or a stop by this much; a claim query on an idle table is free.
    "instances": _every("provisioner.instances", 2),
    # As for instances; an idle table costs one query.
    "volumes": _every("provisioner.volumes", 2),
    # Full list per cluster: the truth behind every charge. The contract asks for one in 30 s.
    "observe": _every("provisioner.observe", 5),
    # Nodes change rarely; a lost card must be seen within a minute.
    "inventory": _every("provisioner.inventory", 20),
    # A cluster that just joined is looked at every ten seconds, others rarely; most runs find none.
    "preflight": _every("provisioner.preflight", 10),
    # A probe that has ended keeps its card until the next look; without one it is a claim query.
    "probes": _every("provisioner.probes", 2),
    # The maintained summary may be a second stale, no more.
    "summaries": _every("provisioner.summaries", 1),
    # A figure over thirty days is as good when it is some minutes old; each run reads a month.
    "reliability": _every("provisioner.reliability", 300),
    # Pods without rental: 120 s is the promise, four sweeps fit in it.
    "orphans": _every("provisioner.orphans", 30),
    # A lease of ten minutes is due each minute: ten seconds late is a sixth of that.
    "leases": _every("provisioner.leases", 10),
    # How long each rental is paid for: a lease of a day is not shorter for being a minute old.
    "lease_wishes": _every("marketplace.leases", 60),
    # A cluster's token is looked at hourly; who looks must come by more often than an alarm waits
    # for a loop that is late. Most runs find none due.
    "tokens": _every("provisioner.tokens", 30),
    # Kept logs live for thirty days, to the hour.
    "old_logs": _every("provisioner.old_logs", 3600),
    # Reports become averages of five minutes when they are two hours old: as often as one is full.
    "samples": _every("provisioner.samples", 300),
    # What instances did becomes what the renter sees.
    "follow": _every("marketplace.follow", 2),
    # Hours are settled at their end; the loop finds nothing to do in between.
    "charge": _every("marketplace.charge", 15),
    # An interruption that ended is on the balance while its renter still looks.
    "outages": _every("marketplace.outages", 30),
    # Woken when one is ordered; this net goes on after a crash, which nobody waits for.
    "incidents": _every("marketplace.incidents", 60),
    # Woken when cards come back and when a host failed; who waits notices five seconds.
    "place": _every("marketplace.place", 5),
    # paid_until is exact to the second; five seconds late is ours to pay.
    "funds": _every("marketplace.funds", 5),
    # The shortest idle time is ten minutes, and reports come every 15 s.
    "idle": _every("marketplace.idle", 15),
    # Woken by what owners announce. What is five seconds late to stop is ours to pay.
    "taken_back": _every("marketplace.taken_back", 5),
    # A bank decides in weeks: half a minute of spending more changes nothing.
    "freeze": _every("marketplace.freeze", 30),
    # The shortest forecast is one hour: a minute of it may pass.
    "ladder": _every("marketplace.ladder", 60),
    # Money is looked at hours before it ends: a minute late is early enough.
    "auto_topup": _every("marketplace.auto_topup", 60),
    # Audit rows are chained within 5 s.
    "seal": _every("marketplace.seal_audit", 3),
    # Woken after commit; this net also sends again what a mail server refused.
    "mail": _every("marketplace.mail", 30),
    # What is told is ten minutes old at the least: half a minute more changes nothing.
    "alerts": _every("marketplace.alerts", 30),
    # New cards become drafts while their owner still looks at the page of the cluster.
    "publish": _every("marketplace.publish", 5),
    # One sample of each card and hour: the first look of an hour takes it, the others find it.
    # Rarer, and a worker that was down for a moment would leave an hour without any.
    "card_samples": _every("marketplace.card_samples", 300),
    # Whoever waits for a card wants it before others: a minute is what a mail takes anyway.
    "saved_searches": _every("marketplace.saved_searches", 60),
    # Idempotency keys are kept thirty days; an hour more or less matters to nobody.
    "forget": _every("marketplace.forget", 3600),
    # Woken after commit; this net also makes the next attempts at receivers that failed.
    "webhooks": _every("marketplace.webhooks", 5),
    # Intents towards Stripe: woken after commit, this is the net below.
    "stripe_out": _every("billing.stripe_out", 5),
    "stripe_in": _every("billing.stripe_in", 5),
    # A webhook that never came costs minutes.
    "stripe_poll": _every("billing.stripe_poll", 60),
    # A date is a date to the minute: what is free of such credit then is taken back.
    "promotions": _every("billing.promotions", 60),
    # Settled usage mirrored to Stripe's meters.
    "meter_mirror": _every("billing.meter_mirror", 60),
    # Once a night; looking whether it is time costs a query, and what failed is tried again.
    "reconcile_usage": _every("marketplace.reconcile", 600),
    "reconcile": _every("billing.reconcile", 600),
    # Month ends and drafts under way.
    "invoices": _every("billing.invoices", 60),
    # Woken by the lock of a month; this net waits for transactions that were under way then.
    "journal": _every("billing.journal", 60),
    # Shares mature after days: an hour more is nothing, and each run adds up whole accounts.
    "maturity": _every("billing.maturity", 3600),
    # The week's run begins within minutes of its hour, also after a night without workers.
    "payouts": _every("billing.payouts", 300),
    # Our balance, accounts being opened and payouts on their way, of which no list of events tells.
    "stripe_follow": _every("billing.stripe_follow", 600),
}
