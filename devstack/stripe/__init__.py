"""A Stripe account on this machine, for the demo and for tests.

The real `stripe` SDK talks to it over HTTP; nothing in the product knows that it is there.

As a process:

    python -m devstack.stripe --port 12111 --state .devstack/stripe \\
        --webhook-url http://127.0.0.1:8000/stripe/webhook --webhook-secret whsec_... \\
        --api-key sk_test_...

prints `stripe simulator ready at http://127.0.0.1:12111` when it serves, and ends on SIGTERM or
with its parent. `--state` keeps every object across restarts.

In a test:

    with StripeSim(webhook_url=..., webhook_secret=...) as sim:
        client = stripe.StripeClient(sim.api_key, base_addresses={"api": sim.base_url})
        ...
        where = sim.control.pay_page(session.url)            # the customer's browser
        sim.control.fail("cut_after", method="POST", path="/v1/payment_intents")
        sim.control.advance(3 * 24 * 3600)                   # Stripe's clock
        sim.control.order("refund", refund=id, status="failed")   # what the bank does
        sim.control.flush()                                  # all due webhooks were tried
        assert sim.control.state()["problems"] == []         # money is conserved

What happens outside the API is ordered: control.order(NAME, ...) with

    refund(refund, status)            a bank finishes, returns or drops a refund
    dispute(charge, amount, reason)   a customer disputes; decide_dispute(dispute, status) ends it
    onboard(account, bank)            a connected account's owner gives all that is asked for
    require(account, description)     Stripe asks for more; past due takes the capability away
    payout(account, status)           Stripe pays an account out; decide_payout(payout, status)
    report_meter_errors()             thin events about meter events that were refused later
    save_portal(), tax(percentage)    somebody sets the account up in the Dashboard

Two rules keep it honest. Every request is checked against the installed SDK's own description
of the API (oracle), and every answer against the SDK's description of the objects (answers). An
operation or a parameter that Stripe has and the simulator does not is a 501, never a made-up
success; so is everything in another currency than US dollars.

Beyond Stripe, on purpose: a POST without an Idempotency-Key is a 400. (The SDK fills in a random
key by itself; `control.requests()` shows which keys the caller chose.)

To extend it: add functions with `@operation(METHOD, PATH, takes=...)` in `resources/`; start
objects with `answers.blank`, store them with `sim.save`, tell with `sim.emit`. Money moves only
through `charges.post`.

Known limits: US dollars, cards, one platform account; no coupons, products or subscriptions; one
tax rate for every place; webhooks go to loopback addresses only (the endpoint of the start also
gets thin events and those of connected accounts, with one secret); a shuffled webhook that waits
for others is forgotten at a restart.
"""
