-- find_followed_order --
-- Of the order with a tracking number, what its events do not say.
SELECT id, tenant_id, flow, delivery_attempts, version
  FROM orders
 WHERE tracking_number = %(tracking_number)s;

-- list_passed --
-- Every status that an order reached up to a version of itself, oldest first; nothing that a caller
-- has written.
SELECT status, attempt,
       sequence IN (SELECT corrects
                      FROM order_events
                     WHERE order_id = %(order_id)s AND sequence <= %(version)s
                       AND corrects IS NOT NULL),
       occurred_at
  FROM order_events
 WHERE order_id = %(order_id)s AND sequence <= %(version)s AND kind = 'transition'
 ORDER BY sequence;

-- list_versions --
-- Which versions of themselves some orders are.
SELECT id, version FROM orders WHERE id = ANY(%(order_ids)s::uuid[]);

-- measure_leads --
-- How long a tenant's orders took from each status to the delivery: the half of them, and nine in
-- ten. Of those delivered among the last "most" that changed; where they are few, because many were
-- placed at once, of the newest that are delivered. By arrays, as in claim_events.
WITH changed AS MATERIALIZED (
    SELECT order_id, status
      FROM order_statuses
     WHERE tenant_id = %(tenant_id)s
     ORDER BY updated_at DESC
     LIMIT %(most)s
), lately AS MATERIALIZED (
    SELECT order_id FROM changed WHERE status = 'delivered' LIMIT %(sample)s
), delivered AS MATERIALIZED (
    SELECT order_id FROM lately
    UNION
    SELECT order_id
      FROM (SELECT order_id
              FROM order_statuses
             -- The second condition is that of the index.
             WHERE tenant_id = %(tenant_id)s AND tenant_id > 0 AND status = 'delivered'
             ORDER BY order_id DESC NULLS LAST
             LIMIT %(sample)s) AS newest
     WHERE (SELECT count(*) FROM lately) < %(few)s
), reached AS (
    SELECT order_id, status,
           extract(epoch FROM max(occurred_at) FILTER (WHERE status = 'delivered')
                                  OVER (PARTITION BY order_id) - occurred_at)::float8 AS seconds
      FROM order_events
     WHERE order_id = ANY(ARRAY(SELECT order_id FROM delivered))
       AND order_id >= (SELECT order_id FROM delivered ORDER BY order_id LIMIT 1)
       AND order_id <= (SELECT order_id FROM delivered ORDER BY order_id DESC LIMIT 1)
       AND kind = 'transition'
), flows AS MATERIALIZED (
    SELECT id, flow FROM orders WHERE id = ANY(ARRAY(SELECT order_id FROM delivered))
)
SELECT flow, status, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),
       percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds)
  FROM reached
  JOIN flows ON flows.id = reached.order_id
 WHERE status <> 'delivered' AND seconds >= 0
 GROUP BY flow, status
HAVING count(*) >= %(few)s;
