-- migrate:up

-- What happened to the outbox rows of an order, beside going through at once: such rows leave nothing
-- here. Some are dropped where an order has too many.
CREATE TABLE order_incidents (
    id bigint GENERATED ALWAYS AS IDENTITY,
    order_id uuid NOT NULL,
    -- Counts those of one order; a gap is what was dropped.
    number integer NOT NULL,
    kind text NOT NULL,
    stage text NOT NULL,
    from_sequence integer NOT NULL,
    -- Which attempt it was that failed, counted from 1 and, after a replay, from 1 again.
    attempt integer,
    -- When the row that was worked on had been published; NULL where that is not known.
    published_at timestamptz,
    -- When the row is due again; NULL where it is not.
    due_at timestamptz,
    error_type text,
    error text,
    -- Who did it, and why, where it was a person.
    operator text,
    reason text,
    correlation_id text,
    happened_at timestamptz NOT NULL DEFAULT now(),
    -- How often the same happened again, with nothing in between, and when it did so last.
    repeats integer NOT NULL DEFAULT 0,
    repeated_at timestamptz,
    CONSTRAINT order_incidents_pkey PRIMARY KEY (id),
    CONSTRAINT order_incidents_number_check CHECK (number >= 1),
    CONSTRAINT order_incidents_kind_check CHECK (kind IN (
        'failed', 'delayed', 'rearmed', 'dead_letter', 'replayed', 'edited', 'discarded',
        'repaired', 'undo_promised', 'undone')),
    CONSTRAINT order_incidents_from_sequence_check CHECK (from_sequence >= 1),
    CONSTRAINT order_incidents_error_check CHECK (char_length(error) <= 500),
    CONSTRAINT order_incidents_repeats_check CHECK ((repeats > 0) = (repeated_at IS NOT NULL))
);
-- Serves list_incidents, and what keeps those of one order few.
CREATE INDEX order_incidents_order_id_number_idx ON order_incidents (order_id, number);

-- What was given up before, and put away.
INSERT INTO order_incidents
       (order_id, number, kind, stage, from_sequence, attempt, error_type, error, reason,
        correlation_id, happened_at)
SELECT order_id, row_number() OVER (PARTITION BY order_id ORDER BY happened_at, kind), kind, stage,
       from_sequence, attempt, error_type, left(error, 500), reason, correlation_id, happened_at
  FROM (SELECT order_id, 'dead_letter' AS kind, stage, from_sequence, attempts AS attempt,
               error_type, error, NULL AS reason, correlation_id, died_at AS happened_at
          FROM dead_letters
        UNION ALL
        SELECT order_id, 'discarded', stage, from_sequence, NULL, NULL, NULL, discard_reason,
               correlation_id, discarded_at
          FROM dead_letters
         WHERE discarded_at IS NOT NULL) AS known
 WHERE EXISTS (SELECT FROM orders WHERE orders.id = order_id);

DO $$
BEGIN
    IF to_regrole('slimtrack_api') IS NOT NULL THEN
        GRANT SELECT ON order_incidents TO slimtrack_api;
        -- Where the rows of an order are, and nothing of what they hold.
        GRANT SELECT (id, stage, order_id, from_sequence, available_at, published_at, attempts,
                      begun_at, undo, correlation_id) ON outbox TO slimtrack_api;
    END IF;
    IF to_regrole('slimtrack_publisher') IS NOT NULL THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON order_incidents TO slimtrack_publisher;
    END IF;
    IF to_regrole('slimtrack_worker') IS NOT NULL THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON order_incidents TO slimtrack_worker;
    END IF;
    IF to_regrole('slimtrack_readonly') IS NOT NULL THEN
        GRANT SELECT ON order_incidents TO slimtrack_readonly;
    END IF;
END $$;

-- One lock, on the one table that is changed: whoever holds another waits for nothing of ours. It
-- comes last: nobody waits while what is above is copied.
LOCK TABLE order_events IN ACCESS EXCLUSIVE MODE;

ALTER TABLE order_events
    -- When the outbox row of the next stage was to be due, as it was made with this event; NULL where
    -- none was, and for events of before. When it was made, recorded_at says.
    ADD COLUMN next_due_at timestamptz,
    -- When the broker confirmed the outbox row that led to this event; NULL where none did.
    ADD COLUMN published_at timestamptz;
