-- migrate:up

-- Which trace a row is part of (W3C Trace Context), so that what follows from a request can be seen
-- with it. NULL where nobody looks: such a row costs what it cost before.
ALTER TABLE outbox ADD COLUMN traceparent text;

-- A replay goes on in the same trace.
ALTER TABLE dead_letters ADD COLUMN traceparent text;
