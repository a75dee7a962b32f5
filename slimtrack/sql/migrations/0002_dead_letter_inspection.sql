-- migrate:up

ALTER TABLE outbox
    -- What an operator adds for the work of the stage, beside the order itself.
    ADD COLUMN payload jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN first_failed_at timestamptz,
    ADD CONSTRAINT outbox_payload_check CHECK (jsonb_typeof(payload) = 'object');

-- A dead letter is an outbox row that was given up, or the body of a message that names no row.
ALTER TABLE dead_letters
    ALTER COLUMN outbox_id DROP NOT NULL,
    ALTER COLUMN stage DROP NOT NULL,
    ALTER COLUMN order_id DROP NOT NULL,
    ALTER COLUMN from_sequence DROP NOT NULL,
    ALTER COLUMN created_at DROP NOT NULL,
    ADD COLUMN payload jsonb NOT NULL DEFAULT '{}',
    -- Empty where the letter died before its actor was known.
    ADD COLUMN actor text NOT NULL DEFAULT '',
    ADD COLUMN queue text NOT NULL DEFAULT '',
    ADD COLUMN body bytea,
    -- Failures of one cause have one fingerprint.
    ADD COLUMN fingerprint text NOT NULL DEFAULT '',
    ADD COLUMN first_failed_at timestamptz NOT NULL DEFAULT now(),
    -- Set when a person has decided that it shall not be replayed; it still accounts for its order.
    ADD COLUMN discarded_at timestamptz,
    ADD COLUMN discard_reason text,
    ADD CONSTRAINT dead_letters_body_check CHECK (
        (body IS NULL) = (outbox_id IS NOT NULL AND stage IS NOT NULL AND order_id IS NOT NULL
                          AND from_sequence IS NOT NULL AND created_at IS NOT NULL)),
    ADD CONSTRAINT dead_letters_payload_check CHECK (jsonb_typeof(payload) = 'object'),
    ADD CONSTRAINT dead_letters_discard_reason_check
        CHECK ((discarded_at IS NULL) = (discard_reason IS NULL)
               AND char_length(discard_reason) BETWEEN 1 AND 500);
-- Serves store_message: the same body is kept once.
CREATE UNIQUE INDEX dead_letters_body_key ON dead_letters (queue, sha256(body))
 WHERE body IS NOT NULL;

CREATE TABLE operator_actions (
    id bigint GENERATED ALWAYS AS IDENTITY,
    action text NOT NULL,
    -- The caller's name for this one action: a second one of that name does nothing.
    operation text,
    operator text NOT NULL,
    reason text NOT NULL,
    -- Which dead letters were meant, and how many there were.
    selection jsonb NOT NULL,
    affected integer NOT NULL,
    acted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT operator_actions_pkey PRIMARY KEY (id),
    -- Serves record_action.
    CONSTRAINT operator_actions_operation_key UNIQUE (operation),
    CONSTRAINT operator_actions_action_check
        CHECK (action IN ('replay', 'edit', 'discard', 'repair')),
    CONSTRAINT operator_actions_operation_check CHECK (char_length(operation) BETWEEN 1 AND 200),
    CONSTRAINT operator_actions_affected_check CHECK (affected >= 0)
);
