"""The one room that speaks to Stripe: intents out, events in. Nothing else imports stripe."""
