-- find_dead_letters --
-- The ids of those that are meant, oldest first.
SELECT id
  FROM dead_letters
 WHERE (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
   AND (%(order_id)s::uuid IS NULL OR order_id = %(order_id)s)
   AND (%(stage)s::text IS NULL OR stage = %(stage)s)
   AND (%(error)s::text IS NULL OR position(lower(%(error)s) IN lower(error)) > 0)
   AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
   AND (%(fingerprint)s::text IS NULL OR fingerprint = %(fingerprint)s)
   AND (%(up_to)s::bigint IS NULL OR id <= %(up_to)s)
   AND (%(older_than)s::float8 IS NULL
        OR died_at <= now() - make_interval(secs => %(older_than)s))
   AND (%(newer_than)s::float8 IS NULL
        OR died_at >= now() - make_interval(secs => %(newer_than)s))
   AND (discarded_at IS NOT NULL) = %(discarded)s
   AND id > %(after)s
 ORDER BY id
 LIMIT %(limit)s;

-- get_dead_letters --
SELECT id, order_id, stage, from_sequence, outbox_id, actor, queue, error_type, error, traceback,
       fingerprint, attempts, publications, correlation_id, payload, undo, body, created_at,
       first_failed_at, died_at, discarded_at, discard_reason
  FROM dead_letters
 WHERE id = ANY(%(ids)s::bigint[])
 ORDER BY id;

-- group_dead_letters --
-- The most frequent first, each with what the latest of it says. A join, so that many are found by
-- one scan, and no sort of all that they say.
WITH groups AS (
    SELECT fingerprint, stage, error_type, count(*) AS count, min(died_at) AS first_died_at,
           max(died_at) AS last_died_at, max(id) AS id
      FROM unnest(%(ids)s::bigint[]) AS meant (id)
      JOIN dead_letters USING (id)
     GROUP BY fingerprint, stage, error_type
)
SELECT fingerprint, stage, error_type,
       (SELECT error FROM dead_letters WHERE dead_letters.id = groups.id) AS error, count,
       first_died_at, last_died_at
  FROM groups
 ORDER BY count DESC, fingerprint;

-- count_rows --
-- How many replay_dead_letters would move.
SELECT count(*)
  FROM dead_letters
 WHERE id = ANY(%(ids)s::bigint[]) AND body IS NULL;

-- count_waiting --
-- How many of each stage nobody has decided about yet, each up to a limit; messages have no stage.
SELECT name, waiting.rows
  FROM unnest(%(stages)s::text[]) AS wanted (name)
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows
      FROM (SELECT FROM dead_letters
             WHERE discarded_at IS NULL AND stage = name LIMIT %(limit)s) AS counted) AS waiting
 WHERE waiting.rows > 0
UNION ALL
SELECT '', count(*)
  FROM (SELECT FROM dead_letters
         WHERE discarded_at IS NULL AND stage IS NULL LIMIT %(limit)s) AS counted
HAVING count(*) > 0;

-- replay_dead_letters --
-- Move rows back into the outbox: due now, or one after the other at so many a second. What was
-- published before still counts as such, so a row that ends its process takes no other with it.
WITH chosen AS (
    DELETE FROM dead_letters
     WHERE id = ANY(%(ids)s::bigint[]) AND body IS NULL
       -- They were found before: somebody may have discarded some since.
       AND (discarded_at IS NOT NULL) = %(discarded)s
    RETURNING *
), numbered AS (
    SELECT *, row_number() OVER (ORDER BY id) - 1 AS number
      FROM chosen
), replayed AS (
    INSERT INTO outbox (stage, order_id, from_sequence, publications, correlation_id, traceparent,
                        payload, undo, outcome, created_at, available_at)
    SELECT stage, order_id, from_sequence, publications, correlation_id, traceparent, payload,
           undo, outcome, created_at,
           now() + CASE WHEN %(rate)s::float8 IS NULL THEN interval '0'
                        ELSE make_interval(secs => number / %(rate)s::float8) END
      FROM numbered
    RETURNING stage, order_id, from_sequence, available_at, correlation_id
), incidents AS (
    SELECT 'replayed' AS kind, stage, order_id, from_sequence, NULL::integer AS attempt,
           NULL::timestamptz AS published_at, available_at AS due_at, NULL AS error_type,
           NULL AS error, correlation_id
      FROM replayed
), {recording}
SELECT FROM replayed;

-- edit_dead_letter --
WITH edited AS (
    UPDATE dead_letters
       SET payload = %(payload)s::jsonb
     WHERE id = %(id)s AND body IS NULL
    RETURNING stage, order_id, from_sequence, correlation_id
), incidents AS (
    SELECT 'edited' AS kind, stage, order_id, from_sequence, NULL::integer AS attempt,
           NULL::timestamptz AS published_at, NULL::timestamptz AS due_at, NULL AS error_type,
           NULL AS error, correlation_id
      FROM edited
), {recording}
SELECT FROM edited;

-- discard_dead_letters --
WITH discarded AS (
    UPDATE dead_letters
       SET discarded_at = now(), discard_reason = %(reason)s
     WHERE id = ANY(%(ids)s::bigint[]) AND discarded_at IS NULL
    RETURNING stage, order_id, from_sequence, correlation_id
), incidents AS (
    SELECT 'discarded' AS kind, stage, order_id, from_sequence, NULL::integer AS attempt,
           NULL::timestamptz AS published_at, NULL::timestamptz AS due_at, NULL AS error_type,
           NULL AS error, correlation_id
      FROM discarded
     WHERE order_id IS NOT NULL -- messages are of no order
), {recording}
SELECT FROM discarded;

-- store_rejected_rows --
-- Give up the rows of a message that the broker has put aside. Rows that are done, or due again
-- by now, are left alone.
WITH given_up AS (
    DELETE FROM outbox
     WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND published_at IS NOT NULL
    RETURNING *
), stored AS (
    INSERT INTO dead_letters
           (outbox_id, stage, order_id, from_sequence, publications, attempts, correlation_id,
            traceparent, payload, undo, outcome, created_at, first_failed_at, actor, queue,
            error_type, error, traceback, fingerprint)
    SELECT id, stage, order_id, from_sequence, publications, attempts, correlation_id, traceparent,
           payload, undo, outcome, created_at, coalesce(first_failed_at, now()), %(actor)s,
           %(queue)s, %(error_type)s, %(error)s, '', %(fingerprint)s
      FROM given_up
        ON CONFLICT DO NOTHING
    RETURNING id, outbox_id, stage, order_id, from_sequence, attempts, error_type, error,
              correlation_id
), incidents AS (
    SELECT 'dead_letter' AS kind, stored.stage, stored.order_id, stored.from_sequence,
           NULL::integer AS attempt, published_at, NULL::timestamptz AS due_at, error_type, error,
           stored.correlation_id
      FROM stored JOIN given_up ON given_up.id = outbox_id
), {recording}
SELECT id, outbox_id, order_id, attempts, correlation_id
  FROM stored;

-- store_message --
-- Keep a message that names no row of ours; the same body of the same queue is kept once.
INSERT INTO dead_letters
       (queue, body, publications, attempts, error_type, error, traceback, fingerprint)
VALUES (%(queue)s, %(body)s, 0, 0, %(error_type)s, %(error)s, '', %(fingerprint)s)
    ON CONFLICT DO NOTHING;

-- measure_replay --
-- What became of the rows that were replayed at one moment: through their stage, dead again, or
-- neither yet. What is neither dead nor in the outbox is through; a row that promises to undo the
-- stage's work counts as the row that it came from. The outbox has no index by order: its rows are
-- found by when they are due, as what happened to them last says, or among those in flight.
WITH replayed AS MATERIALIZED (
    SELECT order_id, stage, from_sequence, number
      FROM order_incidents
     WHERE kind = 'replayed' AND happened_at = %(acted_at)s
), due AS MATERIALIZED (
    SELECT DISTINCT incidents.stage, incidents.due_at
      FROM replayed
      JOIN order_incidents AS incidents
        ON incidents.order_id = replayed.order_id AND incidents.number >= replayed.number
     WHERE incidents.due_at IS NOT NULL
), open AS MATERIALIZED (
    SELECT waiting.*
      FROM due
     CROSS JOIN LATERAL (
        SELECT order_id, stage, from_sequence
          FROM outbox
         WHERE stage = due.stage AND published_at IS NULL AND available_at = due.due_at
        OFFSET 0) AS waiting -- by the index, however many wait
     UNION ALL
    SELECT order_id, stage, from_sequence
      FROM outbox
     WHERE stage = ANY(%(stages)s::text[]) AND published_at >= %(acted_at)s
)
SELECT count(*) AS replayed,
       count(*) FILTER (WHERE dead_letters.id IS NOT NULL) AS dead,
       count(*) FILTER (WHERE dead_letters.id IS NULL
                          -- Not joined: that would be by loops where the planner expects few.
                          AND (replayed.order_id, replayed.stage, replayed.from_sequence)
                              NOT IN (SELECT order_id, stage, from_sequence FROM open))
           AS through,
       count(*) FILTER (WHERE orders.status = 'delivered') AS delivered
  FROM replayed
  LEFT JOIN orders ON orders.id = replayed.order_id
  LEFT JOIN dead_letters
    ON dead_letters.order_id = replayed.order_id AND dead_letters.stage = replayed.stage
   AND dead_letters.from_sequence = replayed.from_sequence;
