-- Billing's part of the facts views; columns and units are fixed by docs/facts.md.

CREATE VIEW facts.usage AS
SELECT id AS usage_id, rental_ref AS rental_id, from_at AS from_ts, to_at AS to_ts, gpus,
       price_micro_h, amount_micro, provider_micro, fee_micro, txn_id
  FROM billing_usageline;

CREATE VIEW facts.entry AS
SELECT p.id AS entry_id, p.txn_id, p.account_id, p.amount_micro, p.currency, t.at AS ts
  FROM billing_posting p JOIN billing_transaction t ON t.id = p.txn_id;

CREATE VIEW facts.txn AS
SELECT id AS txn_id, kind, cause_type, cause_id, at AS ts FROM billing_transaction;

-- The stored floor also counts unpaid invoices, so it is never below what is shown here.
CREATE VIEW facts.account AS
SELECT id AS account_id, kind, owner_ref AS owner_id, currency,
       -credit_limit_micro AS min_balance_micro
  FROM billing_account;

CREATE VIEW facts.payment AS
SELECT id AS payment_id, org_ref AS tenant_id, stripe_id, kind, amount_minor, currency, state,
       txn_id
  FROM billing_payment;

CREATE VIEW facts.stripe_event AS
SELECT id AS event_id, type, received_at AS received_ts, applied_at AS applied_ts, outcome
  FROM billing_stripeevent;
