-- find_dead_letters --
-- The ids of those that are meant, oldest first.
SELECT id
  FROM dead_letters
 WHERE (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
   AND (%(order_id)s::uuid IS NULL OR order_id = %(order_id)s)
   AND (%(stage)s::text IS NULL OR stage = %(stage)s)
   AND (%(error)s::text IS NULL OR position(lower(%(error)s) IN lower(error)) > 0)
   AND (%(fingerprint)s::text IS NULL OR fingerprint = %(fingerprint)s)
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
-- The most frequent first.
SELECT fingerprint, stage, error_type, (array_agg(error ORDER BY died_at DESC))[1] AS error,
       count(*) AS count, min(died_at) AS first_died_at, max(died_at) AS last_died_at
  FROM dead_letters
 WHERE id = ANY(%(ids)s::bigint[])
 GROUP BY fingerprint, stage, error_type
 ORDER BY count(*) DESC, fingerprint;

-- count_rows --
-- How many replay_dead_letters would move.
SELECT count(*)
  FROM dead_letters
 WHERE id = ANY(%(ids)s::bigint[]) AND body IS NULL;

-- replay_dead_letters --
-- Move rows back into the outbox: due now, or one after the other at so many a second. What was
-- published before still counts as such, so a row that ends its process takes no other with it.
WITH chosen AS (
    DELETE FROM dead_letters
     WHERE id = ANY(%(ids)s::bigint[]) AND body IS NULL
    RETURNING *
), numbered AS (
    SELECT *, row_number() OVER (ORDER BY id) - 1 AS number
      FROM chosen
)
INSERT INTO outbox (stage, order_id, from_sequence, publications, correlation_id, payload, undo,
                    outcome, created_at, available_at)
SELECT stage, order_id, from_sequence, publications, correlation_id, payload, undo, outcome,
       created_at, now() + CASE WHEN %(rate)s::float8 IS NULL THEN interval '0'
                    ELSE make_interval(secs => number / %(rate)s::float8) END
  FROM numbered;

-- edit_dead_letter --
UPDATE dead_letters
   SET payload = %(payload)s::jsonb
 WHERE id = %(id)s AND body IS NULL;

-- discard_dead_letters --
UPDATE dead_letters
   SET discarded_at = now(), discard_reason = %(reason)s
 WHERE id = ANY(%(ids)s::bigint[]) AND discarded_at IS NULL;

-- store_rejected_rows --
-- Give up the rows of a message that the broker has put aside. Rows that are done, or due again
-- by now, are left alone.
WITH given_up AS (
    DELETE FROM outbox
     WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND published_at IS NOT NULL
    RETURNING *
)
INSERT INTO dead_letters
       (outbox_id, stage, order_id, from_sequence, publications, attempts, correlation_id, payload,
        undo, outcome, created_at, first_failed_at, actor, queue, error_type, error, traceback,
        fingerprint)
SELECT id, stage, order_id, from_sequence, publications, attempts, correlation_id, payload, undo,
       outcome, created_at, coalesce(first_failed_at, now()), %(actor)s, %(queue)s, %(error_type)s,
       %(error)s, '', %(fingerprint)s
  FROM given_up
    ON CONFLICT DO NOTHING;

-- store_message --
-- Keep a message that names no row of ours; the same body of the same queue is kept once.
INSERT INTO dead_letters
       (queue, body, publications, attempts, error_type, error, traceback, fingerprint)
VALUES (%(queue)s, %(body)s, 0, 0, %(error_type)s, %(error)s, '', %(fingerprint)s)
    ON CONFLICT DO NOTHING;

-- record_action --
-- Who did what, and why; no row comes back where an action of that name was recorded before.
INSERT INTO operator_actions (action, operation, operator, reason, selection, affected)
VALUES (%(action)s, %(operation)s, %(operator)s, %(reason)s, %(selection)s::jsonb, %(affected)s)
    ON CONFLICT (operation) DO NOTHING
RETURNING id;
