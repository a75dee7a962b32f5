"""The local orchestrator behind ``slimtrack up``: servers and processes on one machine."""
