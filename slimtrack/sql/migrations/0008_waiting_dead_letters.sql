-- migrate:up

-- Serves count_waiting: those that nobody has decided about are few, whatever there is besides.
CREATE INDEX dead_letters_waiting_idx ON dead_letters (stage) WHERE discarded_at IS NULL;
