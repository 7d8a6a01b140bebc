"""Providers' money: shares mature, become due, and are paid out through Stripe."""
