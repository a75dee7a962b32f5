-- count_places --
-- How many orders there are, and where they are (I12).
SELECT status, count(*) FROM orders GROUP BY status ORDER BY status;

-- count_rows --
-- Where the promises are that are not kept yet (I12).
SELECT CASE WHEN available_at > now() THEN 'due later'
            WHEN published_at IS NULL THEN 'due'
            ELSE 'in flight' END AS place, count(*)
  FROM outbox
 GROUP BY 1
UNION ALL
SELECT CASE WHEN discarded_at IS NULL THEN 'dead letters' ELSE 'discarded' END, count(*)
  FROM dead_letters
 GROUP BY 1
 ORDER BY 1;

-- find_stranded_orders --
-- Orders that are not final and have no row anywhere: nobody will ever work on them (I4).
SELECT id
  FROM orders
 WHERE status <> ALL(%(final)s::text[])
   AND flow = 'simulated' -- the others wait for a report
   AND NOT EXISTS (SELECT FROM outbox
                    WHERE outbox.order_id = orders.id AND stage <> 'events')
   AND NOT EXISTS (SELECT FROM dead_letters WHERE dead_letters.order_id = orders.id)
 LIMIT %(limit)s;

-- find_gaps --
-- Orders whose events are not numbered 1 to their version (I5).
SELECT id
  FROM orders
  LEFT JOIN (SELECT order_id, count(*) AS events, min(sequence) AS first, max(sequence) AS last
               FROM order_events
              GROUP BY order_id) AS history ON order_id = id
 WHERE (events = version AND first = 1 AND last = version) IS NOT TRUE
 LIMIT %(limit)s;

-- find_undeclared_moves --
-- Orders that moved as no order may (I5).
SELECT order_id
  FROM (SELECT order_id, status,
               lag(status) OVER (PARTITION BY order_id ORDER BY sequence) AS before
          FROM order_events
         WHERE kind = 'transition') AS moves
 WHERE before IS NOT NULL
   AND before || '>' || status <> ALL(%(moves)s::text[])
 LIMIT %(limit)s;

-- find_contradictions --
-- Orders whose status is not that of the event that set it, or that are not where lists look for
-- them (I5).
SELECT id
  FROM orders
  LEFT JOIN order_events ON order_events.order_id = id AND sequence = status_sequence
  LEFT JOIN order_statuses ON order_statuses.order_id = id
 WHERE order_events.status IS DISTINCT FROM orders.status
    OR order_statuses.status IS DISTINCT FROM orders.status
    OR order_statuses.tenant_id IS DISTINCT FROM orders.tenant_id
    OR order_statuses.updated_at IS DISTINCT FROM orders.updated_at
 LIMIT %(limit)s;

-- find_strays --
-- Events and outbox rows of no order (I6), but for what is just being pruned.
SELECT order_id FROM order_events
 WHERE NOT EXISTS (SELECT FROM orders WHERE orders.id = order_id)
   AND NOT EXISTS (SELECT FROM archives
                    WHERE finished_at IS NULL AND order_id >= from_id AND order_id < to_id)
UNION ALL
SELECT order_id FROM outbox
 WHERE NOT EXISTS (SELECT FROM orders WHERE orders.id = order_id)
 LIMIT %(limit)s;

-- find_doubles --
-- Rows that promise what is done already, or that are dead letters at the same time (I6, I7).
SELECT outbox.order_id
  FROM outbox
  JOIN order_events USING (order_id) -- by this index: there is none on the key
 WHERE idempotency_key = outbox.order_id || ':' || from_sequence || ':' || outbox.stage
UNION ALL
SELECT outbox.order_id
  FROM outbox
  JOIN dead_letters USING (order_id, from_sequence, stage)
 WHERE dead_letters.discarded_at IS NULL
 LIMIT %(limit)s;

-- find_stuck_orders --
-- Orders whose next stage should be done, or event be published, by now: its delay and its
-- deadline have passed.
SELECT orders.id, orders.status, outbox.stage, outbox.created_at, attempts, publications, last_error
  FROM outbox
  JOIN unnest(%(stages)s::text[], %(deadlines)s::float8[]) AS allowed (stage, seconds)
    ON allowed.stage = outbox.stage
  JOIN orders ON orders.id = outbox.order_id
 WHERE outbox.created_at < now() - make_interval(secs => allowed.seconds)
 ORDER BY outbox.created_at
 LIMIT %(limit)s;

-- count_stuck_rows --
SELECT outbox.stage, count(*)
  FROM outbox
  JOIN unnest(%(stages)s::text[], %(deadlines)s::float8[]) AS allowed (stage, seconds)
    ON allowed.stage = outbox.stage
 WHERE outbox.created_at < now() - make_interval(secs => allowed.seconds)
 GROUP BY outbox.stage;

-- repair_stranded_orders --
-- Give stranded orders the row of their next stage again.
WITH repaired AS (
    INSERT INTO outbox (stage, order_id, from_sequence)
    SELECT next.stage, id, status_sequence
      FROM orders
      JOIN unnest(%(statuses)s::text[], %(stages)s::text[]) AS next (status, stage) USING (status)
     WHERE id = ANY(%(ids)s::uuid[])
       AND NOT EXISTS (SELECT FROM outbox
                        WHERE outbox.order_id = orders.id AND stage <> 'events')
       AND NOT EXISTS (SELECT FROM dead_letters WHERE dead_letters.order_id = orders.id)
    RETURNING stage, order_id, from_sequence, available_at, correlation_id
), incidents AS (
    SELECT 'repaired' AS kind, stage, order_id, from_sequence, NULL::integer AS attempt,
           NULL::timestamptz AS published_at, available_at AS due_at, NULL AS error_type,
           NULL AS error, correlation_id
      FROM repaired
), {recording}
SELECT FROM repaired;
