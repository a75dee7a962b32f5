-- walk_orders --
-- The orders of some tenants in some statuses, in the order of their ids, which is that of their
-- making: a walk through the index for each of both, and the first of all that they find. The
-- bounds on the id are those of the cursor, and of the times of making as far as the ids know them.
-- No walk passes more than "most" orders (NULL where whatever is passed is shown), and none is
-- followed further than any other got: "reach". There is always a row, if only for the reach. That
-- tenants are above 0 is what the index wants to hear.
WITH reach AS MATERIALIZED (
    SELECT last.order_id
      FROM unnest(%(statuses)s::text[]) AS wanted (status)
     CROSS JOIN unnest(%(tenant_ids)s::integer[]) AS owners (tenant_id)
     CROSS JOIN LATERAL (
        SELECT order_id
          FROM order_statuses
         WHERE tenant_id = owners.tenant_id AND tenant_id > 0
           AND order_statuses.status = wanted.status
           AND order_id > %(after)s AND order_id < %(before)s
         ORDER BY order_id {direction}
         LIMIT 1 OFFSET %(most)s::integer - 1
     ) AS last
     WHERE %(most)s::integer IS NOT NULL
     ORDER BY last.order_id {direction}
     LIMIT 1
), page AS MATERIALIZED (
    SELECT found.order_id AS id
      FROM unnest(%(statuses)s::text[]) AS wanted (status)
     CROSS JOIN unnest(%(tenant_ids)s::integer[]) AS owners (tenant_id)
     CROSS JOIN LATERAL (
        SELECT order_id
          FROM (SELECT order_id, updated_at
                  FROM order_statuses
                 WHERE tenant_id = owners.tenant_id AND tenant_id > 0
                   AND order_statuses.status = wanted.status
                   AND order_id > %(after)s AND order_id < %(before)s
                 ORDER BY order_id {direction}
                 LIMIT %(most)s::integer) AS passed
         WHERE (%(updated_after)s::timestamptz IS NULL OR updated_at >= %(updated_after)s)
           AND (%(updated_before)s::timestamptz IS NULL OR updated_at < %(updated_before)s)
           -- Not EXISTS, which the planner may take for a reason to read all orders that have it.
           AND (%(metadata)s::text IS NULL
                OR (SELECT metadata @> %(metadata)s::text::jsonb FROM orders WHERE id = order_id))
         ORDER BY order_id {direction}
         LIMIT %(limit)s + %(offset)s
     ) AS found
     WHERE NOT EXISTS (SELECT FROM reach WHERE reach.order_id {before} found.order_id)
     ORDER BY found.order_id {direction}
     LIMIT %(limit)s OFFSET %(offset)s
)
SELECT (SELECT order_id FROM reach WHERE (SELECT count(*) FROM page) < %(limit)s), {order_columns}
  FROM (VALUES (1)) AS always
  LEFT JOIN (page JOIN orders USING (id)) ON true
 ORDER BY orders.id {direction};

-- walk_all_orders --
-- The same for the orders of all tenants in all statuses, however many tenants there are: a walk
-- through all of them, of "most" orders.
WITH passed AS MATERIALIZED (
    SELECT id,
           (%(updated_after)s::timestamptz IS NULL OR updated_at >= %(updated_after)s)
           AND (%(updated_before)s::timestamptz IS NULL OR updated_at < %(updated_before)s)
           AND (%(metadata)s::text IS NULL OR metadata @> %(metadata)s::text::jsonb) AS fits
      FROM orders
     WHERE id > %(after)s AND id < %(before)s
     ORDER BY id {direction}
     LIMIT %(most)s
), page AS MATERIALIZED (
    SELECT id FROM passed WHERE fits ORDER BY id {direction} LIMIT %(limit)s OFFSET %(offset)s
), reach AS (
    SELECT id FROM passed ORDER BY id {direction} LIMIT 1 OFFSET %(most)s - 1
)
SELECT (SELECT id FROM reach WHERE (SELECT count(*) FROM page) < %(limit)s), {order_columns}
  FROM (VALUES (1)) AS always
  LEFT JOIN (page JOIN orders USING (id)) ON true
 ORDER BY orders.id {direction};

-- search_orders --
-- The same where an index knows what is asked for: a reference, a tracking number, when orders
-- changed last or a part of their metadata. Where it knows more than "most" candidates, none of
-- them is looked at. There is always a row, if only for their number. At most "enough" of
-- them are looked at where the index and the candidates know all that is asked for.
WITH candidates AS MATERIALIZED (
    SELECT id, status
      FROM orders
     WHERE %(by)s::text = 'reference'
       AND tenant_id = ANY(%(tenant_ids)s::integer[]) AND reference = %(reference)s
    UNION ALL
    SELECT id, status
      FROM orders
     WHERE %(by)s::text = 'tracking_number' AND tracking_number = %(tracking_number)s
    UNION ALL (
    SELECT changed.order_id, changed.status
      FROM unnest(%(tenant_ids)s::integer[]) AS owners (tenant_id)
     CROSS JOIN LATERAL (
        SELECT order_id, status
          FROM order_statuses
         WHERE %(by)s::text = 'updated_at' AND tenant_id = owners.tenant_id
           AND updated_at >= coalesce(%(updated_after)s::timestamptz, '-infinity')
           AND updated_at < coalesce(%(updated_before)s::timestamptz, 'infinity')
         ORDER BY updated_at -- as the index has them: a scan may have no end
         LIMIT %(most)s + 1) AS changed
     LIMIT %(most)s + 1)
    UNION ALL (
    SELECT id, status
      FROM orders
     WHERE %(by)s::text = 'metadata'
       AND metadata @> %(metadata)s::text::jsonb AND metadata <> '{{}}'
     LIMIT %(most)s + 1)
), page AS MATERIALIZED (
    SELECT id
      FROM orders
     WHERE id = ANY(ARRAY(
               SELECT id
                 FROM candidates
                WHERE (SELECT count(*) FROM candidates) <= %(most)s
                  AND status = ANY(%(statuses)s::text[])
                  AND id > %(after)s AND id < %(before)s
                ORDER BY id {direction}
                LIMIT %(enough)s::integer))
       AND tenant_id = ANY(%(tenant_ids)s::integer[])
       AND (%(reference)s::text IS NULL OR reference = %(reference)s)
       AND (%(tracking_number)s::bigint IS NULL OR tracking_number = %(tracking_number)s)
       AND (%(metadata)s::text IS NULL OR metadata @> %(metadata)s::text::jsonb)
       AND (%(updated_after)s::timestamptz IS NULL OR updated_at >= %(updated_after)s)
       AND (%(updated_before)s::timestamptz IS NULL OR updated_at < %(updated_before)s)
     ORDER BY id {direction}
     LIMIT %(limit)s OFFSET %(offset)s
)
SELECT (SELECT count(*) FROM candidates), {order_columns}
  FROM (VALUES (1)) AS always
  LEFT JOIN (page JOIN orders USING (id)) ON true
 ORDER BY orders.id {direction};

-- estimate_orders --
-- How many orders of all tenants have a part of the metadata, as far as the statistics know:
-- to count them takes as long as to find them.
EXPLAIN (FORMAT JSON)
SELECT FROM orders WHERE metadata @> %(metadata)s::text::jsonb AND metadata <> '{}';

-- count_orders --
-- How many orders of some tenants are in some statuses, counted no further than a limit.
SELECT count(*)
  FROM (SELECT
          FROM unnest(%(statuses)s::text[]) AS wanted (status)
         CROSS JOIN unnest(%(tenant_ids)s::integer[]) AS owners (tenant_id)
         CROSS JOIN LATERAL (
            SELECT
              FROM order_statuses
             WHERE tenant_id = owners.tenant_id AND tenant_id > 0
               AND order_statuses.status = wanted.status
             ORDER BY order_id NULLS FIRST -- as the index has them: a scan may have no end
             LIMIT %(limit)s
         ) AS passed
         LIMIT %(limit)s) AS counted;

-- list_owners --
-- What the tenants of some orders are called.
SELECT orders.id, name
  FROM orders
  JOIN tenants ON tenants.id = tenant_id
 WHERE orders.id = ANY(%(order_ids)s::uuid[]);

-- list_tenant_ids --
-- Whose orders there may be.
SELECT array_agg(id) FROM tenants;
