"""Billing's one page: the webhook that Stripe calls."""
