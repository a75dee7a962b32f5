-- count_lost_rows --
-- Of each stage, as far as a limit: the rows that rearm_lost_rows would make due again.
SELECT stage.name, lost.rows
  FROM unnest(%(stages)s::text[], %(empty)s::boolean[]) AS stage (name, is_empty)
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows
      FROM (SELECT publications, published_at
              FROM outbox
             WHERE stage = stage.name AND published_at < now() - interval '30 s'
             ORDER BY published_at
             LIMIT %(limit)s) AS oldest
     WHERE published_at < now() - interval '600 s'
        OR (stage.is_empty
            AND published_at < now() - least(600, 30 * 2 ^ least(publications - 1, 10))
                                       * interval '1 s')
 ) AS lost;

-- find_first_stuck_orders --
-- The orders whose next stage, or event, is past its deadline: of each stage's first so many rows
-- that are not published, and of as many that are; the latest first.
WITH first AS MATERIALIZED (
    SELECT row.*
      FROM unnest(%(stages)s::text[], %(deadlines)s::float8[]) AS allowed (stage, seconds)
     CROSS JOIN LATERAL (
        (SELECT order_id, stage, created_at, attempts, publications
           FROM outbox
          WHERE stage = allowed.stage AND published_at IS NULL
          ORDER BY available_at
          LIMIT %(most)s)
        UNION ALL
        (SELECT order_id, stage, created_at, attempts, publications
           FROM outbox
          WHERE stage = allowed.stage AND published_at IS NOT NULL
          ORDER BY published_at
          LIMIT %(most)s)
     ) AS row
     WHERE row.created_at < now() - make_interval(secs => allowed.seconds)
     ORDER BY row.created_at
     LIMIT %(limit)s
)
SELECT orders.id, orders.status, first.stage, first.created_at, attempts, publications
  FROM first
  JOIN orders ON orders.id = order_id
 ORDER BY first.created_at;
