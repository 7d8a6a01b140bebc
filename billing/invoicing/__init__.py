"""Post-paid invoices: what a period owes, its way through Stripe, and what it does to the books."""
