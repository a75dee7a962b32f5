"""Confirmed publishing: many messages on the way at once, and a definite word on each."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, Final

import pika
import structlog
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from slimtrack import faults
from slimtrack.broker.frames import Outgoing, frames_of
from slimtrack.broker.topology import (
    DEAD_LETTER_QUEUE_ARGUMENTS,
    dead_letter_queue,
    queue_arguments,
    url_with_timeouts,
)

_log: Final = structlog.get_logger()

#: Messages on the way at once.
_WINDOW: Final = 512
#: Seconds before a connection that was lost is tried again.
_RECONNECT: Final = 0.5


class Outcome(Enum):
    """What became of a message; only a confirmed one is the broker's."""

    CONFIRMED = auto()
    RETURNED = auto()
    NACKED = auto()
    LOST = auto()
    TIMED_OUT = auto()


class _Batch:
    """The messages of one call and their outcomes."""

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.outcomes = [Outcome.TIMED_OUT] * len(messages)
        self.done = threading.Event()
        self.given_up = False
        self._left = len(messages)

    def settle(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self._left -= 1
        if not self._left:
            self.done.set()


class ConfirmedPublisher:
    """Publishes from a thread of its own, which keeps the connection alive and makes it again.

    Everything whose name starts with ``_on_`` runs in that thread, as does ``_pump``.

    Args:
        amqp_url: where RabbitMQ is.
        queue_names: the queues to declare on every new connection.
        exchange: the topic exchange to declare instead, for messages that go to no queue of ours.
        on_ready: called from that thread when messages can be published (again).
    """

    def __init__(
        self,
        amqp_url: str,
        *,
        queue_names: Sequence[str] = (),
        exchange: str | None = None,
        on_ready: Callable[[], None],
    ) -> None:
        self._parameters = pika.URLParameters(url_with_timeouts(amqp_url))
        self._parameters.connection_attempts = 1
        # A publisher that is blocked by an alarm waits; a new connection would be blocked too.
        self._parameters.blocked_connection_timeout = None
        self._queue_names = queue_names
        self._exchange = exchange
        self._on_ready = on_ready
        self._connection: pika.SelectConnection | None = None
        self._channel: Channel | None = None
        self._ready = False
        self._blocked = False
        self._closing = threading.Event()
        self._outgoing: deque[tuple[_Batch, int]] = deque()
        #: By delivery tag, oldest first. A message that timed out keeps its place.
        self._unconfirmed: dict[int, tuple[_Batch, int]] = {}
        self._returned: set[str] = set()
        self._last_tag = 0
        #: How often messages may have been lost: new connections, and messages returned.
        self.disruptions = 0
        #: When they last may have been, by the monotonic clock.
        self.disrupted_at = 0.0
        self._thread = threading.Thread(target=self._run, name="confirmed-publisher", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the broker takes messages now."""
        return self._ready and not self._blocked

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[Outcome]:
        """Publish persistent messages and wait, at most ``timeout`` seconds, for their confirms."""
        if not messages:
            return []
        batch = _Batch(messages)
        self._outgoing.extend((batch, index) for index in range(len(messages)))
        if self._call(self._pump):
            batch.done.wait(timeout)
        batch.given_up = True
        if self._exchange is not None and Outcome.TIMED_OUT in batch.outcomes:
            self._call(self._give_up_window)
        return list(batch.outcomes)

    def count_messages(self, *, timeout: float) -> dict[str, int] | None:
        """Return the messages that wait in each queue and in its dead-letter queue.

        None where the broker does not answer.

        Declares the queues, so one that was deleted is there again.
        """
        counts: dict[str, int] = {}
        done = threading.Event()
        if not self._call(partial(self._open_channel, partial(self._on_count, counts, done))):
            return None
        return counts if done.wait(timeout) else None

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._closing.set()
        connection = self._connection
        if connection is not None:
            connection.ioloop.add_callback_threadsafe(partial(self._on_close_wanted, connection))
        self._thread.join(timeout=5)

    def _call(self, callback: Callable[[], None]) -> bool:
        connection = self._connection
        if connection is None or not self._ready:
            return False
        connection.ioloop.add_callback_threadsafe(callback)
        return True

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._serve()
            except Exception as error:  # noqa: BLE001 - this thread must not end
                _log.exception("broker.publisher_failed")
                self._lose(error)
            self._closing.wait(_RECONNECT)

    def _serve(self) -> None:
        """Connect, and publish until the connection ends."""
        connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_end,
            on_close_callback=self._on_end,
        )
        self._connection = connection
        try:
            connection.ioloop.start()
        finally:
            connection.ioloop.close()

    def _on_close_wanted(self, connection: pika.SelectConnection) -> None:
        if connection.is_open:
            connection.close()

    def _on_open(self, connection: Any) -> None:
        if self._closing.is_set():  # pika cannot close a connection while it opens
            connection.close()
            return
        connection.add_on_connection_blocked_callback(partial(self._on_blocked, blocked=True))
        connection.add_on_connection_unblocked_callback(partial(self._on_blocked, blocked=False))
        self._open_channel(self._on_channel)

    def _on_end(self, connection: Any, error: BaseException | str) -> None:
        self._lose(error)
        connection.ioloop.stop()

    def _lose(self, error: BaseException | str) -> None:
        """Everything that is on the way is lost, as far as anyone can know."""
        if not self._closing.is_set():
            _log.warning("broker.disconnected", error=str(error) or type(error).__name__)
        self._connection = self._channel = None
        self._ready = self._blocked = False
        lost = [*self._unconfirmed.values(), *self._outgoing]
        self._unconfirmed.clear()
        self._outgoing.clear()
        self._returned.clear()
        self._last_tag = 0
        for batch, index in lost:
            batch.settle(index, Outcome.LOST)

    def _on_blocked(self, _connection: Any, _method: Any, *, blocked: bool) -> None:
        self._blocked = blocked
        _log.warning("broker.blocked" if blocked else "broker.unblocked")
        if not blocked:
            self._on_ready()

    def _open_channel(self, on_open: Callable[[Channel], None]) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=on_open)

    def _on_channel(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_return_callback(self._on_return)
        channel.add_on_close_callback(self._on_channel_closed)
        channel.confirm_delivery(self._on_confirm)
        if self._exchange is None:
            self._declare(channel, on_count=None, on_done=self._on_declared)
        else:
            channel.exchange_declare(
                self._exchange, "topic", durable=True, callback=lambda _frame: self._on_declared()
            )

    def _on_declared(self) -> None:
        if not self._ready:
            self._ready = True
            self._note_disruption()
            _log.info("broker.connected")
        self._on_ready()

    def _note_disruption(self) -> None:
        self.disrupted_at = time.monotonic()
        self.disruptions += 1

    def _on_channel_closed(self, _channel: Channel, error: BaseException) -> None:
        # A channel that the broker closed has forgotten its confirms: begin again.
        if self._connection is not None and self._connection.is_open:
            _log.warning("broker.channel_closed", error=str(error))
            self._connection.close()

    def _declare(
        self,
        channel: Channel,
        *,
        on_count: Callable[[str, int], None] | None,
        on_done: Callable[[], None],
    ) -> None:
        """Declare every queue; the last answer, which is the last to come, calls ``on_done``."""
        for queue_name in self._queue_names:
            for name, arguments in (
                (dead_letter_queue(queue_name), DEAD_LETTER_QUEUE_ARGUMENTS),
                (queue_name, queue_arguments(queue_name)),
            ):

                def on_declared(frame: Any, name: str = name) -> None:
                    if on_count is not None:
                        on_count(name, frame.method.message_count)
                    if name == self._queue_names[-1]:
                        on_done()

                channel.queue_declare(name, durable=True, arguments=arguments, callback=on_declared)

    def _on_count(self, counts: dict[str, int], done: threading.Event, channel: Channel) -> None:
        def on_done() -> None:
            channel.close()
            done.set()

        self._declare(channel, on_count=counts.__setitem__, on_done=on_done)

    def _pump(self) -> None:
        """Send what waits, as far as the window allows.

        In one piece: with ``basic_publish`` every message costs three system calls here, and
        wakes the broker as often.
        """
        connection, channel = self._connection, self._channel
        if connection is None or channel is None or not channel.is_open:
            return
        frames: list[bytes] = []
        while self._outgoing and len(self._unconfirmed) < _WINDOW:
            batch, index = self._outgoing.popleft()
            if batch.given_up:
                continue
            frames += frames_of(
                batch.messages[index],
                channel_number=channel.channel_number,
                frame_max=connection.params.frame_max,
            )
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = (batch, index)
        if frames:
            connection._output_marshaled_frames([b"".join(frames)])  # noqa: SLF001 - there is no public way

    def _give_up_window(self) -> None:
        """Begin again where nobody waits any more for anything that is on the way.

        A message without an answer keeps its place in the window: its number may still be
        confirmed. A queue of somebody else's may never answer; when messages to it fill the window,
        only a new connection makes room.
        """
        if len(self._unconfirmed) >= _WINDOW and all(
            batch.given_up for batch, _ in self._unconfirmed.values()
        ):
            connection = self._connection
            if connection is not None and connection.is_open and not self._blocked:
                _log.warning("broker.window_given_up", messages=len(self._unconfirmed))
                connection.close()

    def _on_return(
        self, channel: Channel, _method: Any, properties: BasicProperties, _body: bytes
    ) -> None:
        """Note a message that no queue took; its ack follows. Bring the queue back."""
        self._returned.add(properties.message_id or "")
        self._note_disruption()
        _log.warning("broker.returned", message_id=properties.message_id)
        self._declare(channel, on_count=None, on_done=self._on_declared)

    def _on_confirm(self, frame: Any) -> None:
        faults.point("publisher.after_publish")
        acked = isinstance(frame.method, Basic.Ack)
        tag = frame.method.delivery_tag
        tags = [tag]
        if frame.method.multiple:
            tags = []
            for unconfirmed in self._unconfirmed:
                if unconfirmed > tag:
                    break
                tags.append(unconfirmed)
        for each in tags:
            batch, index = self._unconfirmed.pop(each)
            message_id = batch.messages[index].id
            if message_id in self._returned:
                self._returned.remove(message_id)
                batch.settle(index, Outcome.RETURNED)
            else:
                batch.settle(index, Outcome.CONFIRMED if acked else Outcome.NACKED)
            if not batch.done.is_set():
                faults.point("publisher.some_confirmed")
        self._pump()
