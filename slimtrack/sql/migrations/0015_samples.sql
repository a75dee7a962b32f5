-- migrate:up

-- How the system fared, every ten seconds of the last day, for the plots of the overview. One of the
-- publishers writes it, whoever comes first.
CREATE TABLE samples (
    -- A multiple of ten seconds.
    taken_at timestamptz NOT NULL,
    -- Seconds since the oldest row that waits to be published was due; 0 where none waits.
    oldest_due double precision NOT NULL,
    -- Dead letters that nobody has decided about, as far as 2,000.
    dead_letters integer NOT NULL,
    -- Rows that were past their deadline when somebody looked last; NULL where nobody has.
    stuck integer,
    -- By the status that orders reached: {"rate": a second, "p50", "p90": seconds from when it was
    -- due}. Of the orders that changed in these ten seconds, or of the last thousand.
    statuses jsonb NOT NULL,
    -- Serves list_samples and prune_samples.
    CONSTRAINT samples_pkey PRIMARY KEY (taken_at),
    CONSTRAINT samples_statuses_check CHECK (jsonb_typeof(statuses) = 'object')
);

-- Serves list_failures: the latest of those that nobody has decided about.
CREATE INDEX dead_letters_waiting_id_idx ON dead_letters (id) WHERE discarded_at IS NULL;

DO $$
BEGIN
    IF to_regrole('slimtrack_api') IS NOT NULL THEN
        GRANT SELECT ON samples TO slimtrack_api;
        -- Where work failed, and nothing of what it said.
        GRANT SELECT (id, stage, order_id, error_type, fingerprint, died_at, discarded_at)
           ON dead_letters TO slimtrack_api;
    END IF;
    IF to_regrole('slimtrack_publisher') IS NOT NULL THEN
        GRANT SELECT, INSERT, DELETE ON samples TO slimtrack_publisher;
        GRANT SELECT ON tenants TO slimtrack_publisher;
    END IF;
    IF to_regrole('slimtrack_readonly') IS NOT NULL THEN
        GRANT SELECT ON samples TO slimtrack_readonly;
    END IF;
END $$;
