"""The command that shows events as other services receive them."""

from typing import Annotated

import pika
import typer

from slimtrack.broker.errors import BROKER_AWAY
from slimtrack.broker.topology import EVENT_EXCHANGE, url_with_timeouts
from slimtrack.commands.options import Exit
from slimtrack.commands.target import StateDir, read_settings
from slimtrack.domain.errors import UnavailableError


def events(
    state_dir: StateDir = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C; else stop after a second.")
    ] = False,
    pattern: Annotated[
        str, typer.Option("--routing-key", help="Only these, as in order.delivered or order.#.")
    ] = "order.#",
) -> None:
    """Show published events live, a CloudEvent in JSON a line (SLIMTRACK_EVENTS=on)."""
    settings = read_settings(state_dir)
    if not settings.events:
        typer.echo("SLIMTRACK_EVENTS is not on here: perhaps no events are published.", err=True)
    try:
        with pika.BlockingConnection(
            pika.URLParameters(url_with_timeouts(settings.amqp_url))
        ) as connection:
            channel = connection.channel()
            channel.exchange_declare(EVENT_EXCHANGE, "topic", durable=True)
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, EVENT_EXCHANGE, pattern)
            typer.echo(f"Listening to {pattern} on {EVENT_EXCHANGE} …", err=True)
            for _method, _properties, body in channel.consume(
                queue, auto_ack=True, inactivity_timeout=None if follow else 1.0
            ):
                if body is None:
                    return
                typer.echo(body.decode())
    except BROKER_AWAY as error:
        raise UnavailableError(f"RabbitMQ does not answer: {error!r}.") from error
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
