-- migrate:up

-- All at once, before anything else: workers lock the outbox first, then orders, and would otherwise
-- wait for this migration while it waits for them.
LOCK TABLE outbox, orders, order_events, dead_letters IN ACCESS EXCLUSIVE MODE;

ALTER TABLE tenants
    -- What moves the orders of this tenant, unless an order says otherwise.
    ADD COLUMN flow text NOT NULL DEFAULT 'simulated',
    ADD CONSTRAINT tenants_flow_check CHECK (flow IN ('simulated', 'reported'));

CREATE TABLE api_keys (
    -- The public part of the key; the other part is only known to its owner.
    id text NOT NULL,
    tenant_id integer NOT NULL,
    name text NOT NULL,
    secret_hash bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    -- Serves get_key.
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    CONSTRAINT api_keys_name_check CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT api_keys_secret_hash_check CHECK (octet_length(secret_hash) = 32),
    CONSTRAINT api_keys_scopes_check CHECK (
        cardinality(scopes) > 0
        AND scopes <@ ARRAY['orders:read', 'orders:write', 'reports:write', 'operator'])
);

CREATE TABLE idempotency_keys (
    tenant_id integer NOT NULL,
    key text NOT NULL,
    -- SHA-256 of the request.
    fingerprint bytea NOT NULL,
    -- What it was answered.
    status smallint NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Serves find_answers and store_answers.
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, key),
    CONSTRAINT idempotency_keys_key_check CHECK (char_length(key) BETWEEN 1 AND 300)
);
-- Serves prune_answers.
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

ALTER TABLE orders
    -- 60 random bits (not the 13th digit of a random UUID, which is its version); what people
    -- type is made of them.
    ADD COLUMN tracking_number bigint NOT NULL DEFAULT
        ('x' || overlay(substr(replace(gen_random_uuid()::text, '-', ''), 1, 16)
                        PLACING '' FROM 13 FOR 1))::bit(60)::bigint,
    ADD COLUMN flow text NOT NULL DEFAULT 'simulated',
    -- How often the parcel went out for delivery.
    ADD COLUMN delivery_attempts integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT orders_flow_check CHECK (flow IN ('simulated', 'reported')),
    ADD CONSTRAINT orders_tracking_number_check CHECK (tracking_number BETWEEN 0 AND (1::bigint << 60) - 1);
-- Serves find_order_id.
CREATE UNIQUE INDEX orders_tracking_number_key ON orders (tracking_number);
-- Serves search_orders, for a name and value of the metadata.
CREATE INDEX orders_metadata_idx ON orders USING gin (metadata jsonb_path_ops)
 WHERE metadata <> '{}';

-- Where each order is, in a narrow table: an index on orders.status would make every transition
-- write into every index of orders.
CREATE TABLE order_statuses (
    order_id uuid NOT NULL,
    tenant_id integer NOT NULL,
    status text NOT NULL,
    -- That of the order, so that no index of orders holds a column that a transition changes.
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- Serves the statements that move an order.
    CONSTRAINT order_statuses_pkey PRIMARY KEY (order_id)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0
);
-- The clock of a process that made an order may have been ahead of the server's. From now on no
-- order changes before it is made, or before it changed last.
UPDATE orders SET updated_at = created_at WHERE updated_at < created_at;
INSERT INTO order_statuses (order_id, tenant_id, status, updated_at)
SELECT id, tenant_id, status, updated_at FROM orders;
-- Serves walk_orders and count_orders: the orders of a tenant and status, in the order of their
-- ids. Nulls, of which there are none, come first, and lists ask for them so: else the planner
-- may walk through the primary key instead, past a million delivered orders to ten lost ones.
-- Partial, though it holds every row, so that a plan made on an empty table cannot take it for the
-- primary key either: it knows the order_id too, and only finds it by reading the whole index.
CREATE INDEX order_statuses_tenant_id_status_order_id_idx
    ON order_statuses (tenant_id, status, order_id NULLS FIRST)
 WHERE tenant_id > 0;
-- Serves search_orders, for what changed at some time. Orders that moved in one set share one entry.
CREATE INDEX order_statuses_tenant_id_updated_at_idx ON order_statuses (tenant_id, updated_at);

ALTER TABLE order_events
    -- A transition moved the order; a late report and a correction only add to its history.
    ADD COLUMN kind text NOT NULL DEFAULT 'transition',
    -- When we learned of it; occurred_at is when it happened, as far as whoever told us knows.
    ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN location text,
    ADD COLUMN source text,
    -- Why it happened, as far as somebody said so: why a delivery failed, why an order was cancelled.
    ADD COLUMN reason text,
    -- Which delivery attempt this is about, counted from 1.
    ADD COLUMN attempt integer,
    -- The sequence of the event that a correction is about.
    ADD COLUMN corrects integer,
    ADD CONSTRAINT order_events_kind_check CHECK (kind IN ('transition', 'late', 'correction')),
    ADD CONSTRAINT order_events_corrects_check CHECK ((kind = 'correction') = (corrects IS NOT NULL)),
    ADD CONSTRAINT order_events_location_check CHECK (char_length(location) BETWEEN 1 AND 200),
    ADD CONSTRAINT order_events_source_check CHECK (char_length(source) BETWEEN 1 AND 100),
    ADD CONSTRAINT order_events_reason_check CHECK (char_length(reason) BETWEEN 1 AND 500);
UPDATE order_events SET recorded_at = occurred_at;

ALTER TABLE outbox
    -- What a test order is to meet with on its way; NULL for all others.
    ADD COLUMN outcome text,
    DROP CONSTRAINT outbox_stage_check,
    -- 'events' are fan-out rows: the event from_sequence is to be published for other services.
    ADD CONSTRAINT outbox_stage_check CHECK (stage IN (
        'processing', 'in_transit', 'out_for_delivery', 'delivered', 'returned', 'events'));

ALTER TABLE dead_letters
    ADD COLUMN outcome text,
    DROP CONSTRAINT dead_letters_stage_check,
    ADD CONSTRAINT dead_letters_stage_check CHECK (stage IN (
        'processing', 'in_transit', 'out_for_delivery', 'delivered', 'returned'));
