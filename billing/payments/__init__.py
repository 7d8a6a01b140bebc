"""Customers, cards, top-ups and payments: our rows, and what Stripe's answers do to them."""
