"""The queues as RabbitMQ is asked to declare them; every process asks for the same."""

from typing import Any, Final


def dead_letter_queue(queue_name: str) -> str:
    """Return the name that Dramatiq gives to the queue of rejected messages."""
    return f"{queue_name}.XQ"


def queue_arguments(queue_name: str) -> dict[str, Any]:
    """Return the arguments of a stage's queue: rejected messages move to its ``.XQ``."""
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letter_queue(queue_name),
    }


#: The durable topic exchange on which other services find events.
EVENT_EXCHANGE: Final = "slimtrack.events"

#: Rejected messages wait until they are read: Dramatiq's own declaration drops them after a week.
DEAD_LETTER_QUEUE_ARGUMENTS: Final[dict[str, Any]] = {}


def url_with_timeouts(amqp_url: str) -> str:
    """Return the URL with heartbeat and time-outs, so that no call can hang for ever."""
    separator = "&" if "?" in amqp_url else "?"
    return (
        f"{amqp_url}{separator}heartbeat=60&blocked_connection_timeout=30"
        "&connection_attempts=5&retry_delay=1&socket_timeout=5"
    )
