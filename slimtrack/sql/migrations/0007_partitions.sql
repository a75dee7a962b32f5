-- migrate:up

-- One lock, on the one table that is changed: whoever holds another waits for nothing of ours.
LOCK TABLE order_events IN ACCESS EXCLUSIVE MODE;

-- The least id of an order that is placed at a time (UTC) or later: see slimtrack/domain/order.py.
CREATE FUNCTION first_order_id(moment timestamp) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- The events of the orders of each month (UTC) are in a partition of their own, so that they can be
-- dropped together. What there is becomes the first one, as it is: it holds this month's orders and
-- all older ones.
DO $$
DECLARE
    month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    following uuid := first_order_id(month + interval '1 month');
    first text := to_char(month, '"order_events_"YYYY_MM');
    allowed record;
BEGIN
    -- No partitioned table can have it. What it kept from happening twice is told apart by
    -- (order_id, sequence) as well.
    ALTER TABLE order_events DROP CONSTRAINT order_events_idempotency_key_key;
    EXECUTE format('ALTER TABLE order_events RENAME TO %I', first);
    EXECUTE format('ALTER INDEX order_events_pkey RENAME TO %I', first || '_pkey');
    EXECUTE format(
        'CREATE TABLE order_events (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)'
        ' PARTITION BY RANGE (order_id)', first);
    -- Serves list_order_events and claim_events.
    ALTER TABLE order_events ADD CONSTRAINT order_events_pkey PRIMARY KEY (order_id, sequence);
    -- Events of orders that have no partition: nobody made it in time, or it was dropped and they
    -- were not finished.
    CREATE TABLE order_events_default PARTITION OF order_events DEFAULT;
    EXECUTE format(
        'WITH later AS (DELETE FROM %I WHERE order_id >= $1 RETURNING *)'
        ' INSERT INTO order_events SELECT * FROM later', first) USING following;
    EXECUTE format(
        'ALTER TABLE order_events ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
        first, following);
    -- Rights are looked at on the table that a statement names: whoever had some has them still.
    FOR allowed IN
        SELECT privilege_type, grantee
          FROM pg_class, aclexplode(relacl)
         WHERE pg_class.oid = to_regclass(first) AND grantee NOT IN (0, relowner)
    LOOP
        EXECUTE format('GRANT %s ON order_events TO %I',
                       allowed.privilege_type, pg_get_userbyid(allowed.grantee));
    END LOOP;
END $$;

-- Make the partitions of this month and the next two, where they are missing, and return their
-- names. Attached, not created in place: that would lock out everybody. With the rights of the
-- owner, so that the publisher needs none of its own.
CREATE FUNCTION make_order_event_partitions() RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '200ms' AS $$
DECLARE
    month timestamp;
    name text;
BEGIN
    FOR ahead IN 0 .. 2 LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month';
        name := to_char(month, '"order_events_"YYYY_MM');
        IF to_regclass(name) IS NOT NULL THEN
            CONTINUE;
        END IF;
        -- Only one at a time; somebody else may have been faster.
        LOCK TABLE order_events IN SHARE UPDATE EXCLUSIVE MODE;
        -- A month that has begun in the default partition stays there: its events would have to be
        -- moved while everybody waits.
        IF to_regclass(name) IS NOT NULL OR EXISTS (
            SELECT FROM order_events_default
             WHERE order_id >= first_order_id(month)
               AND order_id < first_order_id(month + interval '1 month')
        ) THEN
            CONTINUE;
        END IF;
        EXECUTE format(
            'CREATE TABLE %I (LIKE order_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format(
            'ALTER TABLE order_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, first_order_id(month), first_order_id(month + interval '1 month'));
        RETURN NEXT name;
    END LOOP;
END $$;

-- What was pruned, and what is being pruned: between the deletion of its orders and the dropping of
-- their partition there are events of no order.
CREATE TABLE archives (
    id bigint GENERATED ALWAYS AS IDENTITY,
    partition text NOT NULL,
    -- Which orders' events the partition holds: from this id, and before the other.
    from_id uuid NOT NULL,
    to_id uuid NOT NULL,
    -- No order was pruned that changed at this time or later.
    cutoff timestamptz NOT NULL,
    -- NULL where the orders were not kept.
    file text,
    -- NULL until they are known. With a file, that is when it is complete, and nothing is deleted
    -- before.
    orders bigint,
    events bigint,
    begun_at timestamptz NOT NULL DEFAULT now(),
    -- NULL while there may be something to be deleted.
    finished_at timestamptz,
    CONSTRAINT archives_pkey PRIMARY KEY (id),
    CONSTRAINT archives_orders_check CHECK (orders >= 0),
    CONSTRAINT archives_events_check CHECK (events >= 0)
);
-- Serves get_unfinished: of each partition there is one, at most.
CREATE UNIQUE INDEX archives_unfinished_key ON archives (partition) WHERE finished_at IS NULL;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION make_order_event_partitions() SET search_path = %I, pg_temp',
                   current_schema());
    REVOKE EXECUTE ON FUNCTION make_order_event_partitions() FROM PUBLIC;
    IF to_regrole('slimtrack_publisher') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION make_order_event_partitions() TO slimtrack_publisher;
    END IF;
    IF to_regrole('slimtrack_readonly') IS NOT NULL THEN
        GRANT SELECT ON archives TO slimtrack_readonly;
    END IF;
    PERFORM make_order_event_partitions();
END $$;
