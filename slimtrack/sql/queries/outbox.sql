-- claim_due_rows --
-- Lock due rows of every stage, oldest first, as many as the stage has room for. The locks are
-- the claim: they last until the transaction ends. While a stage has work enough in flight, its
-- rows wait until they fill a set; as soon as it runs out of work, whatever is due goes.
-- Nothing below the floors is looked at, neither among the due rows nor among those in flight.
SELECT stage.name, due.ids, due.publications,
       coalesce(first_set.since, now()) AS due_since,
       coalesce(in_flight.since, now()) AS published_since
  FROM unnest(%(stages)s::text[], %(due_floors)s::timestamptz[],
              %(published_floors)s::timestamptz[]) AS stage (name, due_floor, published_floor)
 CROSS JOIN LATERAL (
    -- What was published before the horizon is lost, or waits in a queue that nobody reads: it
    -- does not keep the stage from going on.
    SELECT count(*) AS rows, min(published_at) AS since
      FROM outbox
     WHERE stage = stage.name
       AND published_at >= greatest(now() - make_interval(secs => %(horizon)s),
                                    stage.published_floor)
 ) AS in_flight
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows, min(available_at) AS since
      FROM (SELECT available_at
              FROM outbox
             WHERE stage = stage.name AND published_at IS NULL AND available_at <= now()
               -- Less a second: what was committed after the last claim may be as much older.
               AND available_at >= coalesce(stage.due_floor - interval '1 s', '-infinity')
             ORDER BY available_at
             LIMIT %(set_size)s) AS oldest
 ) AS first_set
 CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(id), '{}') AS ids,
           coalesce(array_agg(publications), '{}') AS publications
      FROM (SELECT id, publications
              FROM outbox
             WHERE stage = stage.name AND published_at IS NULL AND available_at <= now()
               AND available_at >= first_set.since
             ORDER BY available_at
             LIMIT CASE WHEN in_flight.rows < %(enough)s OR first_set.rows = %(set_size)s
                   THEN greatest(0, least(%(batch)s, %(bound)s - in_flight.rows)) ELSE 0 END
               FOR UPDATE SKIP LOCKED) AS locked
 ) AS due;

-- mark_published --
-- Record that the broker has confirmed these rows; only in the transaction that claimed them, which
-- does not wait for the disk then: a mark that is lost with the server is a message twice. Returns
-- those whose trace is recorded; the attempt that they are published for is the one after those
-- that failed.
WITH marked AS (
    UPDATE outbox
       SET published_at = clock_timestamp(), publications = publications + 1
      FROM (SELECT set_config('synchronous_commit', 'off', true)) AS unwaited
     WHERE id = ANY(%(ids)s::bigint[])
    RETURNING stage, order_id, correlation_id, traceparent, attempts
)
SELECT stage, order_id, correlation_id, traceparent, attempts + 1
  FROM marked
 WHERE traceparent IS NOT NULL;

-- find_next_due_at --
-- When the next row that is not due yet will be; NULL where none waits.
SELECT min(available_at)
  FROM unnest(%(stages)s::text[]) AS stage (name)
 CROSS JOIN LATERAL (
    SELECT available_at
      FROM outbox
     WHERE stage = stage.name AND published_at IS NULL AND available_at > now()
     ORDER BY available_at
     LIMIT 1
 ) AS waiting;

-- read_clock --
-- The server's own clock: it has said when rows were published.
SELECT now();

-- rearm_lost_rows --
-- Make due again what was published and not worked on in time: 30 s, doubled with every further
-- publication, at most 10 minutes. A stage whose queue still holds messages is left
-- alone until those 10 minutes have passed, else a queue that nobody reads would grow for ever.
-- What was published before a disruption of the broker and is not in its queue is lost at whatever
-- age. Both are told as of when the queues were counted: what was published since may be with an
-- actor, however many statements follow each other. Lost rows are due from now on, not since long
-- ago, so that they lie above the floors of claim_due_rows.
WITH lost AS MATERIALIZED (
    SELECT id, published_at
      FROM outbox
     WHERE stage = ANY(%(stages)s::text[])
       AND published_at >= coalesce(%(floor)s::timestamptz - interval '1 s', '-infinity')
       AND ((stage = ANY(%(empty_stages)s::text[])
             AND (published_at < %(disrupted_at)s::timestamptz
                  OR published_at < %(counted_at)s::timestamptz
                                    - least(600, 30 * 2 ^ least(publications - 1, 10))
                                      * interval '1 s'))
            OR published_at < %(counted_at)s::timestamptz - interval '600 s')
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
), rearmed AS (
    UPDATE outbox
       SET published_at = NULL, available_at = now()
     WHERE id = ANY(ARRAY(SELECT id FROM lost))
    RETURNING id, stage, order_id, from_sequence, available_at, correlation_id
), incidents AS (
    SELECT 'rearmed' AS kind, stage, order_id, from_sequence, NULL::integer AS attempt,
           lost.published_at, available_at AS due_at, NULL AS error_type, NULL AS error,
           correlation_id
      FROM rearmed JOIN lost USING (id)
), {recording}
SELECT FROM rearmed;

-- find_oldest_published --
-- When the oldest row in flight was published, or now; nothing below the floor is looked at.
SELECT coalesce(min(published_at), now())
  FROM unnest(%(stages)s::text[]) AS stage (name)
 CROSS JOIN LATERAL (
    SELECT published_at
      FROM outbox
     WHERE stage = stage.name
       AND published_at >= coalesce(%(floor)s::timestamptz - interval '1 s', '-infinity')
     ORDER BY published_at
     LIMIT 1
 ) AS in_flight;

-- measure_outbox --
-- For each stage: when the oldest due row became due, and the oldest in flight was published, or
-- now; how many seconds ago the first of these was; how many rows are due, and in flight, up to a
-- limit. Nothing below the floors is looked at.
SELECT stage.name, coalesce(due.since, now()), coalesce(in_flight.since, now()),
       extract(epoch FROM now() - coalesce(due.since, now()))::float8, due.rows, in_flight.rows
  FROM unnest(%(stages)s::text[], %(due_floors)s::timestamptz[],
              %(published_floors)s::timestamptz[]) AS stage (name, due_floor, published_floor)
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows, min(available_at) AS since
      FROM (SELECT available_at
              FROM outbox
             WHERE stage = stage.name AND published_at IS NULL AND available_at <= now()
               AND available_at >= coalesce(stage.due_floor - interval '1 s', '-infinity')
             ORDER BY available_at
             LIMIT %(limit)s) AS oldest
 ) AS due
 CROSS JOIN LATERAL (
    SELECT count(*) AS rows, min(published_at) AS since
      FROM (SELECT published_at
              FROM outbox
             WHERE stage = stage.name
               AND published_at >= coalesce(stage.published_floor - interval '1 s', '-infinity')
             ORDER BY published_at
             LIMIT %(limit)s) AS oldest
 ) AS in_flight;

-- rearm_rows --
-- Make rows due again whose work could not be done for want of a server; no attempt is consumed:
-- one that was counted beforehand is taken back.
WITH before AS MATERIALIZED (
    SELECT id, published_at FROM outbox WHERE id = ANY(%(ids)s::bigint[])
), delayed AS (
    UPDATE outbox
       SET published_at = NULL, begun_at = NULL, last_error = %(error)s,
           attempts = greatest(0, attempts - %(counted)s::integer),
           available_at = now() + make_interval(secs => %(delay)s * (0.5 + random() / 2))
     WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND available_at <= now()
    RETURNING id, stage, order_id, from_sequence, available_at, correlation_id
), incidents AS (
    SELECT 'delayed' AS kind, stage, order_id, from_sequence, NULL::integer AS attempt,
           before.published_at, available_at AS due_at, %(error_type)s::text AS error_type,
           %(error)s::text AS error, correlation_id
      FROM delayed JOIN before USING (id)
), {recording}
SELECT FROM delayed;

-- fail_rows --
-- Count a failed attempt of each row, unless it was counted beforehand: the row is due again after
-- an exponential backoff with jitter (50 to 100 per cent), or, after its last attempt, moves to
-- dead_letters. A row that is due later already was settled by an earlier run of this
-- statement and is left alone. Returns what it settled, with the dead letters that it made: which
-- row of which order, the attempts so far, and the dead letter's id.
WITH failed AS (
    SELECT *
      FROM unnest(%(ids)s::bigint[], %(counted)s::integer[], %(max_retries)s::integer[],
                  %(error_types)s::text[], %(errors)s::text[], %(tracebacks)s::text[],
                  %(fingerprints)s::text[])
           AS failed (id, counted, max_retries, error_type, error, traceback, fingerprint)
), before AS MATERIALIZED (
    SELECT id, published_at FROM outbox WHERE id = ANY(%(ids)s::bigint[])
), rearmed AS (
    UPDATE outbox
       SET attempts = attempts + 1 - (SELECT counted FROM failed WHERE failed.id = outbox.id),
           published_at = NULL, begun_at = NULL,
           first_failed_at = coalesce(first_failed_at, now()),
           last_error = (SELECT error FROM failed WHERE failed.id = outbox.id),
           available_at = now() + make_interval(secs => (0.5 + random() / 2) * least(
               %(max_backoff)s::float8, %(min_backoff)s::float8 * 2 ^ least(
                   attempts - (SELECT counted FROM failed WHERE failed.id = outbox.id), 60)))
     WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND available_at <= now()
       AND attempts < (SELECT max_retries + counted FROM failed WHERE failed.id = outbox.id)
    RETURNING id, order_id, from_sequence, attempts, available_at, correlation_id, traceparent
), given_up AS (
    DELETE FROM outbox
     WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND available_at <= now()
       AND attempts >= (SELECT max_retries + counted FROM failed WHERE failed.id = outbox.id)
    RETURNING *
), stored AS (
    INSERT INTO dead_letters
           (outbox_id, stage, order_id, from_sequence, publications, attempts, correlation_id,
            traceparent, payload, undo, outcome, created_at, first_failed_at, actor, queue,
            error_type, error, traceback, fingerprint)
    SELECT id, stage, order_id, from_sequence, publications, attempts + 1 - counted,
           correlation_id, traceparent, payload, undo, outcome, created_at,
           coalesce(first_failed_at, now()), %(actor)s, %(queue)s, error_type, failed.error,
           traceback, fingerprint
      FROM given_up JOIN failed USING (id)
        -- A backup that was restored may hold a row whose dead letter there is already.
        ON CONFLICT DO NOTHING
    RETURNING id, outbox_id, order_id, from_sequence, attempts, correlation_id, traceparent
), settled AS (
    SELECT id, order_id, from_sequence, attempts, correlation_id, traceparent,
           available_at AS due_at, NULL::bigint AS dead_letter
      FROM rearmed
     UNION ALL
    SELECT outbox_id, order_id, from_sequence, attempts, correlation_id, traceparent, NULL, id
      FROM stored
), incidents AS (
    SELECT CASE WHEN dead_letter IS NULL THEN 'failed' ELSE 'dead_letter' END AS kind,
           %(stage)s::text AS stage, order_id, from_sequence, attempts AS attempt,
           before.published_at, due_at, error_type, error, correlation_id
      FROM settled JOIN failed USING (id) JOIN before USING (id)
), {recording}
SELECT error_type, id, order_id, attempts, correlation_id, traceparent, dead_letter
  FROM settled JOIN failed USING (id);

-- order_by_suspicion --
-- The rows of a set that still have something to do, the least suspicious first; and whether the
-- last attempt of each ended its process.
SELECT id, coalesce(starts_with(last_error, %(killed)s::text), false)
  FROM outbox
 WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s AND available_at <= now()
 ORDER BY attempts, id;

-- begin_attempt --
-- Count an attempt before it begins, so that one which ends its process is counted as well; and
-- whether an earlier attempt has no outcome. Neither where the row is gone, is due later by now, or
-- is begun just now by another delivery.
WITH begun AS (
    UPDATE outbox
       SET attempts = attempts + 1, begun_at = now()
     WHERE id = %(id)s AND stage = %(stage)s AND available_at <= now() AND begun_at IS NULL
    RETURNING id
)
SELECT EXISTS (SELECT FROM begun),
       EXISTS (SELECT FROM outbox
                WHERE id = %(id)s AND stage = %(stage)s AND available_at <= now()
                  AND begun_at IS NOT NULL);

-- lock_attempts --
-- How many attempts some rows took so far; nobody else counts one until the transaction ends.
SELECT id, attempts
  FROM outbox
 WHERE id = ANY(%(ids)s::bigint[]) AND stage = %(stage)s
 ORDER BY id
   FOR UPDATE;

-- allow_work --
-- Let this transaction, and those who wait for its locks in the same way, last so much longer.
SELECT set_config('lock_timeout', (8 + %(seconds)s)::text || 's', true),
       set_config('statement_timeout', (12 + %(seconds)s)::text || 's', true),
       set_config('idle_in_transaction_session_timeout', (15 + %(seconds)s)::text || 's', true);

-- lock_row --
-- A row whose work is to be done, and whether its order still is where the row found it. Whoever
-- else is handed the row waits until the transaction ends, and then finds it gone.
SELECT order_id, from_sequence, undo, payload, attempts, correlation_id, traceparent,
       coalesce((SELECT status = ANY(%(from_statuses)s::text[])
                        AND status_sequence = from_sequence
                   FROM orders
                  WHERE orders.id = order_id), false) AS wanted
  FROM outbox
 WHERE id = %(id)s AND stage = %(stage)s AND available_at <= now()
   FOR UPDATE;

-- add_undo --
-- Promise to undo a stage's work; in the transaction that found that its order did not move.
WITH promised AS (
    INSERT INTO outbox (stage, order_id, from_sequence, payload, correlation_id, traceparent,
                        undo)
    VALUES (%(stage)s, %(order_id)s, %(from_sequence)s, %(payload)s::jsonb, %(correlation_id)s,
            %(traceparent)s, true)
    RETURNING stage, order_id, from_sequence, available_at, correlation_id
), incidents AS (
    SELECT 'undo_promised' AS kind, stage, order_id, from_sequence, NULL::integer AS attempt,
           NULL::timestamptz AS published_at, available_at AS due_at, NULL AS error_type,
           NULL AS error, correlation_id
      FROM promised
), {recording}
SELECT FROM promised;

-- finish_undo --
-- Take away a row whose work is undone; in the transaction that locked it.
WITH finished AS (
    DELETE FROM outbox
     WHERE id = %(id)s
    RETURNING stage, order_id, from_sequence, published_at, correlation_id
), incidents AS (
    SELECT 'undone' AS kind, stage, order_id, from_sequence, NULL::integer AS attempt,
           published_at, NULL::timestamptz AS due_at, NULL AS error_type, NULL AS error,
           correlation_id
      FROM finished
), {recording}
SELECT FROM finished;

-- claim_events --
-- Lock due fan-out rows, oldest first, and show their events. The locks are the claim: they last
-- until the transaction ends. The floor is as in claim_due_rows.
WITH claimed AS (
    SELECT id, order_id, from_sequence, correlation_id, available_at
      FROM outbox
     WHERE stage = 'events' AND published_at IS NULL AND available_at <= now()
       AND available_at >= coalesce(%(floor)s::timestamptz - interval '1 s', '-infinity')
     ORDER BY available_at
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
)
SELECT claimed.id, tenant_id, claimed.correlation_id, claimed.available_at,
       sequence, kind, order_events.status, message, reason, location, source, attempt, corrects,
       occurred_at, recorded_at,
       {order_columns}
  FROM claimed
  -- By arrays, as in advance_orders: a plain join reads both tables as far as the newest order.
  JOIN (SELECT * FROM order_events
         WHERE order_id = ANY(ARRAY(SELECT order_id FROM claimed))
           -- An array does not say which partitions are wanted.
           AND order_id >= (SELECT order_id FROM claimed ORDER BY order_id LIMIT 1)
           AND order_id <= (SELECT order_id FROM claimed ORDER BY order_id DESC LIMIT 1)
       ) AS order_events
    ON order_events.order_id = claimed.order_id AND sequence = claimed.from_sequence
  JOIN (SELECT * FROM orders
         WHERE id = ANY(ARRAY(SELECT order_id FROM claimed))) AS orders
    ON orders.id = claimed.order_id
 ORDER BY recorded_at, orders.id, sequence;

-- settle_events --
-- Take away the rows whose events the broker has confirmed; those that it refused are due again
-- later, so that they do not keep the rest from going on. In the transaction that claimed them.
WITH published AS (
    DELETE FROM outbox WHERE id = ANY(%(confirmed)s::bigint[])
)
UPDATE outbox
   SET attempts = attempts + 1,
       available_at = now() + make_interval(secs => least(60, 0.5 * 2 ^ least(attempts, 10)))
 WHERE id = ANY(%(refused)s::bigint[]);

-- has_due_events --
SELECT EXISTS (SELECT FROM outbox
                WHERE stage = 'events' AND published_at IS NULL AND available_at <= now());
