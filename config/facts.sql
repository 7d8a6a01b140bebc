-- The facts views: a small, stable, read-only contract for finance, auditors and outside checks.
-- Documented in docs/facts.md. Dropped before and created again after each migrate; nothing in the
-- product reads them. Times are timestamptz, intervals [from, to), amounts integers in micro-units.

CREATE SCHEMA IF NOT EXISTS facts;

CREATE OR REPLACE VIEW facts.slot AS
SELECT s.id AS slot_id, n.cluster_id, n.name AS node, s.device_uid, g.accelerator,
       g.provider_ref AS provider_id, s.state
FROM provisioner_slot s
JOIN provisioner_nodeshare h ON h.id = s.share_id
JOIN provisioner_node n ON n.id = h.node_id
JOIN provisioner_devicegroup g ON g.id = h.group_id;

CREATE OR REPLACE VIEW facts.hold AS
SELECT id AS hold_id, slot_id, rental_ref AS rental_id, from_ts, to_ts
FROM provisioner_hold;

CREATE OR REPLACE VIEW facts.rental AS
SELECT r.id AS rental_id, r.organization_id AS tenant_id, r.state, i.cluster_id,
       n.name AS namespace, i.pod_name, i.pod_uid, r.idempotency_key AS idem_key,
       r.created_at AS created_ts, r.stop_ack_at AS stop_ack_ts, r.ended_at AS ended_ts
FROM marketplace_rental r
LEFT JOIN provisioner_instance i ON i.id = r.instance_ref
LEFT JOIN provisioner_namespace n ON n.id = i.namespace_id;

-- One row per instance: the operation that brings the world to what the instance's row wants.
CREATE OR REPLACE VIEW facts.op AS
SELECT i.id AS op_id, i.rental_ref AS rental_id,
       CASE i.desired WHEN 'run' THEN 'start' ELSE 'end' END AS kind,
       i.state AS step,
       CASE
         WHEN i.state = 'gone' THEN 'done'
         WHEN i.desired = 'run' AND i.state = 'ready' THEN 'done'
         WHEN i.claim_token IS NOT NULL AND i.claim_until > app_now() THEN 'working'
         ELSE 'pending'
       END AS state,
       i.generation,
       greatest(i.state_since, i.worked_at) AS updated_ts
FROM provisioner_instance i;

CREATE OR REPLACE VIEW facts.audit AS
SELECT s.seq, e.actor, e.on_behalf, e.action, e.object, e.ts,
       encode(s.prev_hash, 'hex') AS prev_hash, encode(s.hash, 'hex') AS hash
FROM marketplace_auditseal s
JOIN marketplace_auditentry e ON e.id = s.entry_id;

CREATE OR REPLACE VIEW facts.usage AS
SELECT u.id AS usage_id, u.rental_ref AS rental_id, u.from_at AS from_ts, u.to_at AS to_ts, u.gpus,
       u.price_micro_h, u.amount_micro, u.provider_micro, u.fee_micro, u.txn_id
  FROM billing_usageline u JOIN billing_rentalmeter m USING (rental_ref)
 WHERE m.kind = 'gpu';

CREATE OR REPLACE VIEW facts.entry AS
SELECT p.id AS entry_id, p.txn_id, p.account_id, p.amount_micro, p.currency, t.at AS ts
  FROM billing_posting p JOIN billing_transaction t ON t.id = p.txn_id;

CREATE OR REPLACE VIEW facts.txn AS
SELECT id AS txn_id, kind, cause_type, cause_id, at AS ts FROM billing_transaction;

-- The stored floor also counts unpaid invoices, so it is never below what is shown here.
CREATE OR REPLACE VIEW facts.account AS
SELECT id AS account_id, kind, owner_ref AS owner_id, currency,
       -credit_limit_micro AS min_balance_micro
  FROM billing_account;

CREATE OR REPLACE VIEW facts.payment AS
SELECT id AS payment_id, org_ref AS tenant_id, stripe_id, kind, amount_minor, currency, state,
       txn_id
  FROM billing_payment;

CREATE OR REPLACE VIEW facts.stripe_event AS
SELECT id AS event_id, type, received_at AS received_ts, applied_at AS applied_ts, outcome
  FROM billing_stripeevent;

-- rental_id names what has one price: a volume at one size. A disk belongs to no rental.
CREATE OR REPLACE VIEW facts.disk_usage AS
SELECT u.id AS usage_id, u.rental_ref AS rental_id, u.from_at AS from_ts, u.to_at AS to_ts,
       u.gpus AS disk_gib, u.price_micro_h, u.amount_micro, u.provider_micro, u.fee_micro, u.txn_id,
       v.volume_id
  FROM billing_usageline u JOIN billing_rentalmeter m USING (rental_ref)
  LEFT JOIN marketplace_volumemeter v ON v.id = u.rental_ref
 WHERE m.kind = 'disk';

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'facts_reader') THEN
    GRANT USAGE ON SCHEMA facts TO facts_reader;
    GRANT SELECT ON ALL TABLES IN SCHEMA facts TO facts_reader;
  END IF;
END $$;
