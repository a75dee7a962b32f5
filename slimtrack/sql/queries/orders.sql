-- order_columns --
-- What an order is made of; stands for {order_columns} in all other statements.
orders.id, orders.tracking_number, orders.reference, orders.description, orders.metadata,
       orders.flow, orders.status, orders.delivery_attempts, orders.version, orders.created_at,
       orders.updated_at;

-- placing --
-- How given orders are stored, with their first event and, unless only reports move them, the
-- outbox row of their first stage; stands for {placing} below. An order whose id or reference is
-- taken is left out: only those that were stored come back.
placed AS (
    INSERT INTO orders
           (id, tenant_id, reference, description, metadata, flow, status, version,
            status_sequence, created_at, updated_at)
    SELECT id, tenant_id, reference, description, metadata::jsonb, flow, %(status)s, 1, 1,
           created_at, created_at
      FROM given
        ON CONFLICT DO NOTHING
    RETURNING id, tenant_id, flow, tracking_number, updated_at
), located AS (
    INSERT INTO order_statuses (order_id, tenant_id, status, updated_at)
    SELECT id, tenant_id, %(status)s, updated_at FROM placed
), recorded AS (
    INSERT INTO order_events
           (order_id, sequence, status, message, idempotency_key, correlation_id, occurred_at,
            next_due_at)
    SELECT id, 1, %(status)s, %(message)s, id || ':0:' || %(status)s, correlation_id, created_at,
           CASE WHEN placed.flow = 'simulated'
                THEN now() + make_interval(secs => %(next_delay)s) END
      FROM placed JOIN given USING (id)
), next AS (
    INSERT INTO outbox (stage, order_id, from_sequence, available_at, correlation_id, traceparent,
                        outcome)
    SELECT %(next_stage)s, id, 1, now() + make_interval(secs => %(next_delay)s),
           correlation_id, %(traceparent)s, outcome
      FROM placed JOIN given USING (id)
     WHERE placed.flow = 'simulated'
), fanned_out AS (
    INSERT INTO outbox (stage, order_id, from_sequence, correlation_id, traceparent)
    SELECT 'events', id, 1, correlation_id, %(traceparent)s
      FROM placed JOIN given USING (id)
     WHERE %(fan_out)s
);

-- place_order --
-- Store one order. There are no arrays to write and to read, which cost more than one order.
WITH given AS (
    SELECT %(id)s::uuid AS id, %(tenant_id)s::integer AS tenant_id,
           %(reference)s::text AS reference, %(description)s::text AS description,
           %(metadata)s::text AS metadata, %(flow)s::text AS flow, %(outcome)s::text AS outcome,
           %(correlation_id)s::text AS correlation_id, %(created_at)s::timestamptz AS created_at
), {placing}
SELECT tracking_number FROM placed;

-- place_orders --
-- Store orders. The arrays are sent in binary (b): as text they take four times as long.
WITH given AS (
    SELECT *
      FROM unnest(%(ids)b::uuid[], %(tenant_ids)b::integer[], %(references)b::text[],
                  %(descriptions)b::text[], %(metadata)b::text[], %(flows)b::text[],
                  %(outcomes)b::text[], %(correlation_ids)b::text[],
                  %(created_ats)b::timestamptz[])
           AS given (id, tenant_id, reference, description, metadata, flow, outcome,
                     correlation_id, created_at)
), {placing}
SELECT id, tracking_number FROM placed;

-- find_orders --
-- The orders that have one of these ids, or one of these references of their tenant.
SELECT {order_columns}, tenant_id
  FROM orders
 WHERE id = ANY(%(ids)s)
    OR (tenant_id = ANY(%(tenant_ids)s) AND reference = ANY(%(references)s));

-- find_order_id --
-- The order with a tracking number.
SELECT id FROM orders WHERE tracking_number = %(tracking_number)s;

-- get_order --
-- One order; no row for an unknown id, or one of another tenant.
SELECT {order_columns}
  FROM orders
 WHERE id = %(order_id)s AND (%(tenant_id)s::integer IS NULL OR tenant_id = %(tenant_id)s);

-- get_version --
-- Which version of itself an order is; no row for an unknown id, or one of another tenant.
SELECT version
  FROM orders
 WHERE id = %(order_id)s AND (%(tenant_id)s::integer IS NULL OR tenant_id = %(tenant_id)s);

-- lock_order --
-- The same, and nobody else changes it until the transaction ends.
SELECT {order_columns}
  FROM orders
 WHERE id = %(order_id)s AND (%(tenant_id)s::integer IS NULL OR tenant_id = %(tenant_id)s)
   FOR NO KEY UPDATE;

-- list_order_events --
-- The history of one order, oldest first; no rows for an unknown one, or one of another tenant.
SELECT sequence, kind, status, message, reason, location, source, attempt, corrects, occurred_at,
       recorded_at
  FROM order_events
 WHERE order_id = %(order_id)s
   AND (%(tenant_id)s::integer IS NULL
        OR EXISTS (SELECT FROM orders WHERE id = %(order_id)s AND tenant_id = %(tenant_id)s))
 ORDER BY sequence;

-- append_event --
-- Write the next event of an order that this transaction has locked. With a status to move to, the
-- order moves there, and what is due after that gets its row.
WITH changed AS (
    UPDATE orders
       SET version = version + 1, updated_at = greatest(updated_at, now()),
           status = coalesce(%(to_status)s::text, status),
           status_sequence = CASE WHEN %(to_status)s::text IS NULL THEN status_sequence
                                  ELSE version + 1 END,
           delivery_attempts = delivery_attempts
               + (%(to_status)s::text IS NOT DISTINCT FROM 'out_for_delivery')::integer
     WHERE id = %(order_id)s
    RETURNING *
), located AS (
    UPDATE order_statuses
       SET status = coalesce(%(to_status)s::text, status), updated_at = greatest(updated_at, now())
     WHERE order_id = (SELECT id FROM changed)
), recorded AS (
    INSERT INTO order_events
           (order_id, sequence, kind, status, message, reason, location, source, attempt, corrects,
            idempotency_key, correlation_id, occurred_at, next_due_at)
    SELECT id, version, %(kind)s, coalesce(%(status)s, status), %(message)s, %(reason)s,
           %(location)s, %(source)s,
           CASE WHEN %(to_status)s::text = ANY(%(attempted)s::text[])
                            THEN delivery_attempts ELSE %(attempt)s END,
           %(corrects)s, id || ':' || version || ':' || %(cause)s, %(correlation_id)s,
           coalesce(%(occurred_at)s, now()),
           CASE WHEN %(next_stage)s::text IS NOT NULL
                THEN now() + make_interval(secs => %(next_delay)s) END
      FROM changed
), next AS (
    INSERT INTO outbox (stage, order_id, from_sequence, available_at, correlation_id, traceparent)
    SELECT %(next_stage)s, id, version, now() + make_interval(secs => %(next_delay)s),
           %(correlation_id)s, %(traceparent)s
      FROM changed
     WHERE %(next_stage)s::text IS NOT NULL
), fanned_out AS (
    INSERT INTO outbox (stage, order_id, from_sequence, correlation_id, traceparent)
    SELECT 'events', id, version, %(correlation_id)s, %(traceparent)s
      FROM changed
     WHERE %(fan_out)s
)
SELECT {order_columns}
  FROM changed AS orders;

-- advance_orders --
-- Bring the orders of a set of outbox rows through one stage. The deletion is the claim: a row
-- that is not there, not of this stage, or due later after all, has no effect. An order
-- moves only if it still is where its row found it.
WITH claimed AS (
    DELETE FROM outbox
     WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND available_at <= now()
       AND NOT undo AND (outcome IS NULL OR %(with_tests)s)
    RETURNING order_id, from_sequence, correlation_id, traceparent, outcome, available_at,
              published_at, attempts + (begun_at IS NULL)::integer AS attempt
), moved AS (
    UPDATE orders
       SET status = %(to_status)s, version = version + 1, status_sequence = version + 1,
           delivery_attempts = delivery_attempts
               + (%(to_status)s::text = 'out_for_delivery')::integer,
           updated_at = greatest(updated_at, now())
     -- Never a join: the outbox is nearly always empty when it is analysed, and the plan that
     -- suits an empty table takes seconds on a full one. IS TRUE keeps the planner from making
     -- one of IN, which it then looks up in a hash table.
     WHERE id = ANY(ARRAY(SELECT order_id FROM claimed))
       AND status = ANY(%(from_statuses)s::text[])
       AND ((id, status_sequence) IN (SELECT order_id, from_sequence FROM claimed)) IS TRUE
    RETURNING id, version, delivery_attempts, created_at
), located AS (
    UPDATE order_statuses SET status = %(to_status)s, updated_at = greatest(updated_at, now())
     WHERE order_id = ANY(ARRAY(SELECT id FROM moved))
), matched AS (
    -- No row starts from a later event than the one that set the status: the latest matched.
    SELECT DISTINCT ON (order_id) order_id, from_sequence, correlation_id, traceparent, outcome,
           published_at
      FROM claimed
     ORDER BY order_id, from_sequence DESC
), recorded AS (
    INSERT INTO order_events
           (order_id, sequence, status, message, attempt, idempotency_key, correlation_id,
            published_at, next_due_at)
    SELECT id, version, %(to_status)s, %(message)s,
           CASE WHEN %(to_status)s::text = ANY(%(attempted)s::text[]) THEN delivery_attempts END,
           id || ':' || from_sequence || ':' || %(stage)s, correlation_id, published_at,
           CASE WHEN %(next_stage)s::text IS NOT NULL
                THEN now() + make_interval(secs => %(next_delay)s) END
      FROM moved JOIN matched ON order_id = id
), next AS (
    INSERT INTO outbox (stage, order_id, from_sequence, available_at, correlation_id, traceparent,
                        outcome)
    SELECT %(next_stage)s, id, version, now() + make_interval(secs => %(next_delay)s),
           correlation_id, traceparent, outcome
      FROM moved JOIN matched ON order_id = id
     WHERE %(next_stage)s::text IS NOT NULL
), fanned_out AS (
    INSERT INTO outbox (stage, order_id, from_sequence, correlation_id, traceparent)
    SELECT 'events', id, version, correlation_id, traceparent
      FROM moved JOIN matched ON order_id = id
     WHERE %(fan_out)s
)
SELECT (SELECT count(*) FROM claimed) AS claimed, (SELECT count(*) FROM moved) AS moved,
       (SELECT extract(epoch FROM clock_timestamp() - min(available_at))::float8
          FROM claimed) AS due,
       (SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8
          FROM moved) AS placed,
       -- Only with traces on are the rows looked through.
       (SELECT json_agg(json_build_array(order_id, correlation_id, traceparent, attempt))
          FROM claimed
         WHERE %(traced)s AND traceparent IS NOT NULL) AS traced;

-- find_tested_rows --
-- Those of some rows that are of test orders, with what is to happen to each. An attempt that has
-- begun is counted, and has not failed.
WITH tested AS (
    SELECT id, order_id, outcome, attempts - (begun_at IS NOT NULL)::integer AS failures
      FROM outbox
     WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND available_at <= now()
       AND outcome IS NOT NULL
)
SELECT tested.id, order_id, outcome, failures, delivery_attempts
  FROM tested
  -- By an array, as in advance_orders.
  JOIN (SELECT id, delivery_attempts FROM orders
         WHERE id = ANY(ARRAY(SELECT order_id FROM tested))) AS found ON found.id = order_id;
