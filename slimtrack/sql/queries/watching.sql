-- take_sample --
-- Keep how the system fares, unless somebody has for these ten seconds. What moved is read of the
-- orders that changed since then, or of the last so many, where there were more: every event of
-- theirs since then is one of all there were. By arrays, as in claim_events.
WITH wanted AS MATERIALIZED (
    SELECT date_bin('10 s', now(), 'epoch') AS taken_at
     WHERE NOT EXISTS (SELECT FROM samples WHERE taken_at = date_bin('10 s', now(), 'epoch'))
), changed AS MATERIALIZED (
    SELECT latest.order_id, latest.updated_at
      FROM wanted
     CROSS JOIN tenants
     CROSS JOIN LATERAL (
        SELECT order_id, updated_at
          FROM order_statuses
         WHERE tenant_id = tenants.id AND updated_at > now() - interval '10 s'
         ORDER BY updated_at DESC
         LIMIT %(most)s
     ) AS latest
     ORDER BY latest.updated_at DESC
     LIMIT %(most)s
), span AS MATERIALIZED (
    SELECT CASE WHEN count(*) < %(most)s THEN now() - interval '10 s'
                ELSE least(min(updated_at), now() - interval '100 ms') END AS begun_at
      FROM changed
), moves AS (
    SELECT status, recorded_at,
           extract(epoch FROM recorded_at - lag(next_due_at) OVER earlier)::float8 AS seconds
      FROM order_events
     WHERE order_id = ANY(ARRAY(SELECT order_id FROM changed))
       AND order_id >= (SELECT order_id FROM changed ORDER BY order_id LIMIT 1)
       AND order_id <= (SELECT order_id FROM changed ORDER BY order_id DESC LIMIT 1)
       AND kind = 'transition'
    WINDOW earlier AS (PARTITION BY order_id ORDER BY sequence)
), fared AS (
    SELECT status,
           count(*) / extract(epoch FROM now() - (SELECT begun_at FROM span))::float8 AS rate,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50,
           percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds) AS p90
      FROM moves
     WHERE recorded_at >= (SELECT begun_at FROM span)
     GROUP BY status
)
INSERT INTO samples (taken_at, oldest_due, dead_letters, stuck, statuses)
SELECT taken_at, %(oldest_due)s,
       (SELECT count(*)
          FROM (SELECT FROM dead_letters WHERE discarded_at IS NULL LIMIT %(limit)s) AS first),
       %(stuck)s::integer,
       (SELECT coalesce(jsonb_object_agg(status, jsonb_build_object(
                            'rate', round(rate::numeric, 3), 'p50', round(p50::numeric, 4),
                            'p90', round(p90::numeric, 4))), '{}')
          FROM fared)
  FROM wanted
    ON CONFLICT DO NOTHING;

-- list_samples --
-- The samples after a time, oldest first; their time as Unix time.
SELECT extract(epoch FROM taken_at)::float8, oldest_due, dead_letters, stuck, statuses
  FROM samples
 WHERE taken_at > now() - make_interval(secs => %(seconds)s)
 ORDER BY taken_at;

-- prune_samples --
DELETE FROM samples WHERE taken_at < now() - interval '1 day';

-- prefer_indexes --
-- Until the transaction ends: the outbox is nearly always empty when it is analysed, so that the
-- planner would read all of a full one.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true);

-- measure_stages --
-- For each stage, each as far as a limit: rows that wait for their time, that are due, that failed
-- before, that are in flight; and how many seconds ago the oldest due row was due.
SELECT stage.name, waiting.rows, due.rows, waiting.failed + due.failed, in_flight.rows,
       coalesce(extract(epoch FROM now() - due.since), 0)::float8
  FROM unnest(%(stages)s::text[]) AS stage (name)
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows, count(*) FILTER (WHERE attempts > 0) AS failed
      FROM (SELECT attempts
              FROM outbox
             WHERE stage = stage.name AND published_at IS NULL AND available_at > now()
             ORDER BY available_at
             LIMIT %(limit)s) AS first
 ) AS waiting
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows, count(*) FILTER (WHERE attempts > 0) AS failed,
           min(available_at) AS since
      FROM (SELECT attempts, available_at
              FROM outbox
             WHERE stage = stage.name AND published_at IS NULL AND available_at <= now()
             ORDER BY available_at
             LIMIT %(limit)s) AS first
 ) AS due
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows
      FROM (SELECT
              FROM outbox
             WHERE stage = stage.name AND published_at IS NOT NULL
             ORDER BY published_at
             LIMIT %(limit)s) AS first
 ) AS in_flight;

-- count_statuses --
-- How many orders of all tenants are in each status, counted as far as a limit; where there are
-- more, how many there are as far as the statistics know, which are as old as the last analysis.
SELECT status.name, least(counted.rows, %(limit)s),
       CASE WHEN counted.rows > %(limit)s THEN greatest(counted.rows, known.rows) END
  FROM unnest(%(statuses)s::text[]) AS status (name)
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows
      FROM (SELECT
              FROM tenants
             CROSS JOIN LATERAL (
                SELECT
                  FROM order_statuses
                 WHERE tenant_id = tenants.id AND order_statuses.status = status.name
                   AND tenant_id > 0
                 ORDER BY order_id NULLS FIRST -- as the index has them
                 LIMIT %(limit)s + 1
             ) AS of_one
             LIMIT %(limit)s + 1) AS of_all
 ) AS counted
  LEFT JOIN (
    SELECT value, (frequency * reltuples)::bigint AS rows
      FROM pg_class
      JOIN pg_stats ON schemaname = relnamespace::regnamespace::text AND tablename = relname
     CROSS JOIN unnest(most_common_vals::text::text[], most_common_freqs)
           AS common (value, frequency)
     WHERE pg_class.oid = 'order_statuses'::regclass AND attname = 'status'
  ) AS known ON known.value = status.name;

-- list_failures --
-- Of the latest dead letters that nobody has decided about: those of one cause together, the
-- latest first, with the latest order that it met.
WITH latest AS MATERIALIZED (
    SELECT id, stage, order_id, error_type, fingerprint, died_at
      FROM dead_letters
     WHERE discarded_at IS NULL
     ORDER BY id DESC
     LIMIT %(most)s
), failures AS (
    SELECT max(id) AS id, stage, error_type, fingerprint, count(*) AS letters
      FROM latest
     GROUP BY stage, error_type, fingerprint
     ORDER BY max(id) DESC
     LIMIT %(limit)s
)
SELECT failures.stage, failures.error_type, failures.fingerprint, failures.letters,
       latest.order_id, tracking_number, extract(epoch FROM latest.died_at)::float8
  FROM failures
  JOIN latest USING (id)
  LEFT JOIN orders ON orders.id = latest.order_id
 ORDER BY failures.id DESC;
