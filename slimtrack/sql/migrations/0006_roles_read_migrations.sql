-- migrate:up

-- Every process looks at its start whether a migration is missing, so every role may read which
-- were applied. All other rights are given here once more: the roles may have been made by
-- somebody else, where the migrations may not make any.
DO $$
BEGIN
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
EXCEPTION WHEN undefined_object THEN
    RAISE WARNING 'There are no roles with the least rights: every process works as the owner.'
    USING HINT = 'Where somebody may make slimtrack_api, slimtrack_publisher, slimtrack_worker and'
                 ' slimtrack_readonly, run 0006_roles_read_migrations.sql with psql afterwards.';
END $$;
