"""RabbitMQ for Dramatiq: the broker class, its consumer, its middleware."""
