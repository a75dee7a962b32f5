-- lock_pruning --
-- Whether this session is the only one that prunes, until it ends.
SELECT pg_try_advisory_lock(hashtextextended('slimtrack prune', 0));

-- get_cutoff --
-- The server's own clock decides what is old: it has said when orders changed.
SELECT now() - make_interval(secs => %(age)s);

-- find_unfinished --
-- The prunings that were begun and not finished.
SELECT id, partition, cutoff, file, orders, events FROM archives WHERE finished_at IS NULL;

-- begin_archive --
INSERT INTO archives (partition, from_id, to_id, cutoff, file, orders, events)
VALUES (%(partition)s, %(from_id)s, %(to_id)s, %(cutoff)s, %(file)s, %(orders)s, %(orders)s)
RETURNING id, partition, cutoff, file, orders, events;

-- forget_archive --
-- Take away one that has deleted nothing.
DELETE FROM archives WHERE id = %(id)s;

-- update_archive --
-- Remember where orders are kept, and how many: from then on what the file holds may be deleted.
UPDATE archives SET file = %(file)s, orders = %(orders)s, events = %(events)s WHERE id = %(id)s;

-- finish_archive --
UPDATE archives SET finished_at = now() WHERE id = %(id)s;

-- find_busy --
-- The orders of a partition for which something is still to be done, or to be decided.
SELECT order_id FROM outbox
 WHERE EXISTS (SELECT FROM {partition} AS events WHERE events.order_id = outbox.order_id)
UNION
SELECT order_id FROM dead_letters
 WHERE discarded_at IS NULL
   AND EXISTS (SELECT FROM {partition} AS events WHERE events.order_id = dead_letters.order_id);

-- pass_orders --
-- The next orders of a partition, in the order of their ids, each with whether it may be pruned. An
-- id whose order is gone comes too, without one.
WITH passed AS MATERIALIZED (
    SELECT order_id
      FROM {partition}
     WHERE order_id > %(after)s AND sequence = 1
     ORDER BY order_id
     LIMIT %(limit)s
)
SELECT order_id,
       orders.status = ANY(%(final)s::text[]) AND updated_at < %(cutoff)s
           AND orders.id <> ALL(%(busy)s::uuid[]),
       tenants.name, {order_columns}
  FROM passed
  LEFT JOIN orders ON orders.id = order_id
  LEFT JOIN tenants ON tenants.id = tenant_id
 ORDER BY order_id;

-- read_events --
-- The whole histories of some orders.
SELECT order_id, sequence, kind, status, message, reason, location, source, attempt, corrects,
       occurred_at, recorded_at, idempotency_key, correlation_id, published_at, next_due_at
  FROM {partition}
 WHERE order_id = ANY(%(ids)s::uuid[])
 ORDER BY order_id, sequence;

-- delete_orders --
-- Delete orders that are as they were when they were read, and for which nothing is to be done.
WITH deleted AS (
    DELETE FROM orders
     USING unnest(%(ids)s::uuid[], %(versions)s::integer[]) AS wanted (id, version)
     WHERE orders.id = wanted.id AND orders.version = wanted.version
       AND orders.id <> ALL(%(busy)s::uuid[])
    RETURNING orders.id
), forgotten AS (
    DELETE FROM order_incidents WHERE order_id = ANY(ARRAY(SELECT id FROM deleted))
)
DELETE FROM order_statuses WHERE order_id = ANY(ARRAY(SELECT id FROM deleted));

-- count_left --
-- How many orders a partition's events may be of, counted up to a limit.
SELECT count(*)
  FROM (SELECT FROM orders WHERE id >= %(from_id)s AND id < %(to_id)s LIMIT %(limit)s) AS counted;

-- delete_events --
-- Delete those of the next events of a partition whose orders are gone, with what is still known of
-- them; the last id that was passed, or no row at the end.
WITH passed AS MATERIALIZED (
    SELECT order_id
      FROM {partition}
     WHERE order_id > %(after)s AND sequence = 1
     ORDER BY order_id
     LIMIT %(limit)s
), gone AS MATERIALIZED (
    SELECT order_id
      FROM passed
     WHERE NOT EXISTS (SELECT FROM orders WHERE orders.id = passed.order_id)
), forgotten AS (
    DELETE FROM order_incidents WHERE order_id = ANY(ARRAY(SELECT order_id FROM gone))
), deleted AS (
    DELETE FROM {partition} WHERE order_id = ANY(ARRAY(SELECT order_id FROM gone))
)
SELECT order_id FROM passed ORDER BY order_id DESC LIMIT 1;
