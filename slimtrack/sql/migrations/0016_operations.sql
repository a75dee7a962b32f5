-- migrate:up

-- What an operator may do is for the code to say: versions that know of more work beside this one.
ALTER TABLE operator_actions DROP CONSTRAINT IF EXISTS operator_actions_action_check;

DO $$
BEGIN
    IF to_regrole('slimtrack_api') IS NOT NULL THEN
        -- As in 0010: where rows are, and nothing of what they hold.
        GRANT SELECT (created_at, publications) ON outbox TO slimtrack_api;
        -- To make lost rows due again.
        GRANT UPDATE (published_at, available_at) ON outbox TO slimtrack_api;
    END IF;
END $$;
