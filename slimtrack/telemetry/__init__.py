"""What is seen from outside: logs, metrics, reports of errors."""
