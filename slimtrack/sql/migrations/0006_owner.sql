-- migrate:up

-- As in 0004: workers lock the outbox first.
LOCK TABLE outbox, orders, order_events, dead_letters IN ACCESS EXCLUSIVE MODE;

-- A role that owns what there is, so that neither migrations nor an operator's commands need a
-- superuser. It cannot log in until somebody gives it a password. Whoever may neither make it nor
-- become it keeps what it owns, and goes on without.
DO $$
DECLARE
    before text := current_user;
    name text;
BEGIN
    IF to_regrole('slimtrack_owner') IS NULL THEN
        BEGIN
            CREATE ROLE slimtrack_owner NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database has just made it
        END;
    END IF;
    -- Only who can become a role may give it something.
    BEGIN
        SET LOCAL ROLE slimtrack_owner;
        EXECUTE format('SET LOCAL ROLE %I', before);
    EXCEPTION WHEN insufficient_privilege THEN
        EXECUTE format('GRANT slimtrack_owner TO %I', before);
    END;
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO slimtrack_owner', current_schema());
    FOREACH name IN ARRAY ARRAY[
        'schema_migrations', 'orders', 'order_statuses', 'order_events', 'outbox', 'dead_letters',
        'tenants', 'api_keys', 'idempotency_keys', 'operator_actions'] LOOP
        EXECUTE format('ALTER TABLE %I OWNER TO slimtrack_owner', name);
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'The tables stay with %: %', before, SQLERRM
    USING HINT = 'Where somebody may make slimtrack_owner and grant it to their owner,'
                 ' run 0006_owner.sql with psql afterwards.';
END $$;
