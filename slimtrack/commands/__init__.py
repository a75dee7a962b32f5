"""The operator's commands, one module per kind."""
