-- migrate:up

ALTER TABLE outbox
    -- When an attempt began that was counted beforehand; NULL once its outcome is known.
    ADD COLUMN begun_at timestamptz,
    -- The order is not wanted any more: undo what the stage's work did for it.
    ADD COLUMN undo boolean NOT NULL DEFAULT false;

ALTER TABLE dead_letters
    ADD COLUMN undo boolean NOT NULL DEFAULT false;
