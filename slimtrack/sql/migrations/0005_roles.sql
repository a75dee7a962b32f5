-- migrate:up

-- A role with the least rights for each kind of process. They cannot log in until somebody gives
-- them a password, or makes another role a member of one. Roles belong to the whole server: somebody
-- else may have made them, or be making the same ones now. Whoever may not make roles goes on
-- without them.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['slimtrack_api', 'slimtrack_publisher', 'slimtrack_worker',
                                'slimtrack_readonly'] LOOP
        IF to_regrole(name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;

    -- Every process looks at its start whether a migration is missing.
    GRANT SELECT ON schema_migrations
       TO slimtrack_api, slimtrack_publisher, slimtrack_worker, slimtrack_readonly;

    GRANT SELECT, INSERT, UPDATE ON orders, order_statuses, idempotency_keys TO slimtrack_api;
    GRANT SELECT, INSERT ON order_events TO slimtrack_api;
    GRANT INSERT ON outbox TO slimtrack_api;
    GRANT SELECT ON tenants, api_keys TO slimtrack_api;
    GRANT UPDATE (last_used_at) ON api_keys TO slimtrack_api;

    GRANT SELECT, UPDATE, DELETE ON outbox TO slimtrack_publisher;
    GRANT SELECT, DELETE ON idempotency_keys TO slimtrack_publisher;
    GRANT SELECT, INSERT ON dead_letters TO slimtrack_publisher;
    GRANT SELECT ON orders, order_statuses, order_events TO slimtrack_publisher;

    GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO slimtrack_worker;
    GRANT SELECT, UPDATE ON orders, order_statuses TO slimtrack_worker;
    GRANT SELECT, INSERT ON order_events, dead_letters TO slimtrack_worker;

    GRANT SELECT ON orders, order_statuses, order_events, outbox, dead_letters, tenants,
                    operator_actions TO slimtrack_readonly;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'There are no roles with the least rights: every process works as the owner.'
    USING HINT = 'Where somebody may make slimtrack_api, slimtrack_publisher, slimtrack_worker and'
                 ' slimtrack_readonly, run 0005_roles.sql with psql afterwards.';
END $$;
