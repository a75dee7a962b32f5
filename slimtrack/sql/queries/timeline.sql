-- recording --
-- How what happened to rows is written down, in the statement in which it happens; stands for
-- {recording} there. Incidents are given by a CTE of that name with kind, stage, order_id,
-- from_sequence, attempt, published_at, due_at, error_type, error and correlation_id. The same that
-- happens again, while nobody can help it, is counted; of an order with more than 100, the first 20
-- and the latest 80 are kept. Nothing is asked of orders: somebody may hold that table, and what
-- failed has to be settled all the same.
noted AS (
    SELECT incidents.*, latest.id AS latest_id,
           coalesce(latest.number, 0)
               + row_number() OVER (PARTITION BY incidents.order_id) AS number,
           (incidents.kind IN ('delayed', 'rearmed')
            AND (incidents.kind, incidents.stage, incidents.from_sequence)
                = (latest.kind, latest.stage, latest.from_sequence)) IS TRUE AS is_repeat
      FROM incidents
      LEFT JOIN LATERAL (
        SELECT id, number, kind, stage, from_sequence
          FROM order_incidents
         WHERE order_id = incidents.order_id
         ORDER BY number DESC
         LIMIT 1) AS latest ON true
), added AS (
    INSERT INTO order_incidents
           (order_id, number, kind, stage, from_sequence, attempt, published_at, due_at,
            error_type, error, operator, reason, correlation_id)
    SELECT order_id, number, kind, stage, from_sequence, attempt, published_at, due_at,
           error_type, left(error, 500), %(operator)s::text, %(reason)s::text, correlation_id
      FROM noted
     WHERE NOT is_repeat
), counted_again AS (
    UPDATE order_incidents
       SET repeats = repeats + 1, repeated_at = now(), published_at = noted.published_at,
           due_at = noted.due_at, error_type = noted.error_type, error = left(noted.error, 500)
      FROM noted
     WHERE is_repeat AND order_incidents.id = latest_id
       -- For the index: where loops are off, the join alone reads the whole table.
       AND order_incidents.id = ANY(ARRAY(SELECT latest_id FROM noted WHERE is_repeat))
), dropped AS (
    DELETE FROM order_incidents
     WHERE id = ANY(ARRAY(
        SELECT old.id
          FROM noted
         CROSS JOIN LATERAL (
            SELECT id
              FROM order_incidents
             WHERE order_id = noted.order_id AND order_incidents.number > 20
             ORDER BY order_incidents.number DESC
            OFFSET 79) AS old
         WHERE noted.number > 100 AND NOT is_repeat))
);

-- list_timeline_events --
-- The history of one order, oldest first, with what is known of the rows behind it.
SELECT sequence, kind, status, message, reason, location, source, attempt, corrects, occurred_at,
       recorded_at, correlation_id, split_part(idempotency_key, ':', 2)::integer,
       split_part(idempotency_key, ':', 3), published_at, next_due_at
  FROM order_events
 WHERE order_id = %(order_id)s
 ORDER BY sequence;

-- list_incidents --
-- What happened to the rows of some orders, those of each in the order in which it happened.
SELECT order_id, number, kind, stage, from_sequence, attempt, published_at, due_at, error_type,
       error, operator, reason, correlation_id, happened_at, repeats, repeated_at
  FROM order_incidents
 WHERE order_id = ANY(%(order_ids)s::uuid[])
 ORDER BY order_id, number, id;

-- find_open_rows --
-- The rows of one order that wait, or are in flight, with the time of now; one row without anything
-- else where there are none. There is no index by order, as each transition would have to write
-- into it: they are found by when they are due, or among those in flight.
SELECT now(), found.*
  FROM (SELECT) AS always
  LEFT JOIN (
    SELECT stage, from_sequence, available_at, published_at, attempts, begun_at, undo,
           correlation_id
      FROM outbox
     WHERE stage = ANY(%(stages)s::text[]) AND published_at IS NULL
       AND available_at = ANY(%(due_ats)s::timestamptz[]) AND order_id = %(order_id)s
    UNION ALL
    SELECT stage, from_sequence, available_at, published_at, attempts, begun_at, undo,
           correlation_id
      FROM outbox
     WHERE stage = ANY(%(stages)s::text[])
       AND published_at >= coalesce(%(since)s::timestamptz, '-infinity')
       AND order_id = %(order_id)s) AS found ON true
 ORDER BY from_sequence, stage;

-- list_revisions --
-- What of some orders differs whenever there is more to tell of one: its version, and the latest
-- incident of its rows.
SELECT orders.id, version, coalesce(latest.number, 0), coalesce(latest.repeats, 0)
  FROM orders
  LEFT JOIN LATERAL (
    SELECT number, repeats
      FROM order_incidents
     WHERE order_id = orders.id
     ORDER BY number DESC
     LIMIT 1) AS latest ON true
 WHERE orders.id = ANY(%(order_ids)s::uuid[]);
