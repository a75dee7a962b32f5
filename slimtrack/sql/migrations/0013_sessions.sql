-- migrate:up

-- What the sessions of browsers are signed with: the same for all processes of the API, and known to
-- nobody else. Whoever adds a row ends all sessions once the API is started again.
CREATE TABLE session_secrets (
    id integer GENERATED ALWAYS AS IDENTITY,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT session_secrets_pkey PRIMARY KEY (id),
    CONSTRAINT session_secrets_secret_check CHECK (octet_length(secret) >= 32)
);

-- 244 random bits: a uuid of this kind has 122, from the source that keys are made of.
INSERT INTO session_secrets (secret)
VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

DO $$
BEGIN
    IF to_regrole('slimtrack_api') IS NOT NULL THEN
        GRANT SELECT ON session_secrets TO slimtrack_api;
    END IF;
END $$;
