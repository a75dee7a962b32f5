"""Which errors say that RabbitMQ does not answer."""

from typing import Final

import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

#: A connection that is taken and never answered raises what is no ``AMQPError`` of pika's.
BROKER_AWAY: Final = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)
