-- migrate:up

-- Serves measure_replay: what was replayed at one moment, which is one operation.
CREATE INDEX order_incidents_replayed_idx ON order_incidents (happened_at) WHERE kind = 'replayed';

-- How many the operator was told it would be done to; NULL where nobody was told.
ALTER TABLE operator_actions ADD COLUMN expected integer;

DO $$
BEGIN
    IF to_regrole('slimtrack_api') IS NOT NULL THEN
        -- For operators who look at dead letters in the dashboard, and decide about them there.
        GRANT SELECT, DELETE ON dead_letters TO slimtrack_api;
        GRANT UPDATE (payload, discarded_at, discard_reason) ON dead_letters TO slimtrack_api;
        GRANT SELECT, INSERT ON operator_actions TO slimtrack_api;
        GRANT SELECT, INSERT, UPDATE, DELETE ON order_incidents TO slimtrack_api;
    END IF;
END $$;
