"""What is seen from outside: logs."""
