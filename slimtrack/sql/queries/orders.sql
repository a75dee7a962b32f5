-- place_orders --
-- Store orders with their first event and the outbox row of their first stage. An order whose id
-- or reference is taken is left out: only the ids that were stored come back.
WITH given AS (
    SELECT *
      FROM unnest(%(ids)s::uuid[], %(references)s::text[], %(descriptions)s::text[],
                  %(metadata)s::text[], %(correlation_ids)s::text[])
           AS given (id, reference, description, metadata, correlation_id)
), placed AS (
    INSERT INTO orders (id, reference, description, metadata, status, version, status_sequence)
    SELECT id, reference, description, metadata::jsonb, %(status)s, 1, 1
      FROM given
        ON CONFLICT DO NOTHING
    RETURNING id, created_at
), recorded AS (
    INSERT INTO order_events
           (order_id, sequence, status, message, idempotency_key, correlation_id, occurred_at)
    SELECT id, 1, %(status)s, %(message)s, id || ':0:' || %(status)s, correlation_id, created_at
      FROM placed JOIN given USING (id)
), next AS (
    INSERT INTO outbox (stage, order_id, from_sequence, available_at, correlation_id)
    SELECT %(next_stage)s, id, 1, created_at + make_interval(secs => %(next_delay)s),
           correlation_id
      FROM placed JOIN given USING (id)
)
SELECT id, created_at FROM placed;

-- find_orders --
-- The orders that have one of these ids, or one of these references.
SELECT id, reference, description, metadata, status, version, created_at, updated_at
  FROM orders
 WHERE id = ANY(%(ids)s)
    OR (tenant_id = 1 AND reference = ANY(%(references)s));

-- get_order --
-- One order; no row for an unknown id.
SELECT id, reference, description, metadata, status, version, created_at, updated_at
  FROM orders
 WHERE id = %(order_id)s;

-- list_orders --
-- Newest first: ids made later sort later.
SELECT id, reference, description, metadata, status, version, created_at, updated_at
  FROM orders
 ORDER BY id DESC
 LIMIT %(limit)s OFFSET %(offset)s;

-- count_orders --
SELECT count(*) FROM orders;

-- list_order_events --
-- The history of one order, oldest first; no rows for an unknown order.
SELECT sequence, status, message, occurred_at
  FROM order_events
 WHERE order_id = %(order_id)s
 ORDER BY sequence;

-- advance_orders --
-- Bring the orders of a set of outbox rows through one stage. The deletion is the claim: a row
-- that is not there, not of this stage, or due later after all, has no effect. An order
-- moves only if it still is where its row found it.
WITH claimed AS (
    DELETE FROM outbox
     WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND available_at <= now()
       AND NOT undo
    RETURNING order_id, from_sequence, correlation_id
), moved AS (
    UPDATE orders
       SET status = %(stage)s, version = version + 1, status_sequence = version + 1,
           updated_at = now()
     -- Never a join: the outbox is nearly always empty when it is analysed, and the plan that
     -- suits an empty table takes seconds on a full one. IS TRUE keeps the planner from making
     -- one of IN, which it then looks up in a hash table.
     WHERE id = ANY(ARRAY(SELECT order_id FROM claimed))
       AND status = ANY(%(from_statuses)s::text[])
       AND ((id, status_sequence) IN (SELECT order_id, from_sequence FROM claimed)) IS TRUE
    RETURNING id, version
), matched AS (
    -- No row starts from a later event than the one that set the status: the latest matched.
    SELECT DISTINCT ON (order_id) order_id, from_sequence, correlation_id
      FROM claimed
     ORDER BY order_id, from_sequence DESC
), recorded AS (
    INSERT INTO order_events
           (order_id, sequence, status, message, idempotency_key, correlation_id)
    SELECT id, version, %(stage)s, %(message)s,
           id || ':' || from_sequence || ':' || %(stage)s, correlation_id
      FROM moved JOIN matched ON order_id = id
), next AS (
    INSERT INTO outbox (stage, order_id, from_sequence, available_at, correlation_id)
    SELECT %(next_stage)s, id, version, now() + make_interval(secs => %(next_delay)s),
           correlation_id
      FROM moved JOIN matched ON order_id = id
     WHERE %(next_stage)s::text IS NOT NULL
)
SELECT (SELECT count(*) FROM claimed) AS claimed, (SELECT count(*) FROM moved) AS moved;
