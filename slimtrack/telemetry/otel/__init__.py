"""OpenTelemetry: spans to a collector, with nothing in them that belongs to a caller."""
