-- migrate:up

ALTER TABLE order_events
    -- Why it happened, as far as somebody said so: why a delivery failed, why an order was cancelled.
    ADD COLUMN reason text,
    ADD CONSTRAINT order_events_reason_check CHECK (char_length(reason) BETWEEN 1 AND 500);
