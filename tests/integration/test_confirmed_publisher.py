"""Confirmed publishing on a real RabbitMQ, behind a network that fails."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import pytest
from observing import count_events, count_waiting, take_all, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from proxy import Proxy
from structlog.testing import capture_logs

from slimtrack.broker.messages import SetMessage
from slimtrack.broker.publishing import ConfirmedPublisher, Outcome
from slimtrack.broker.topology import EVENT_EXCHANGE, dead_letter_queue
from slimtrack.routing import BY_QUEUE

QUEUES = list(BY_QUEUE)
ONE = QUEUES[0]


def messages(count: int, *, queue: str = ONE) -> list[SetMessage]:
    return [SetMessage(queue_name=queue, actor_name="any", row_ids=[row]) for row in range(count)]


@pytest.fixture
def publisher(proxy: Proxy) -> Iterator[ConfirmedPublisher]:
    with closing(
        ConfirmedPublisher(proxy.url, queue_names=QUEUES, on_ready=lambda: None)
    ) as running:
        wait_until(lambda: running.is_ready)
        yield running


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "confirmed-publisher"]


def test_a_batch_larger_than_the_window_is_confirmed_and_each_message_is_there_once(
    publisher: ConfirmedPublisher, channel: BlockingChannel
) -> None:
    sent = [message for queue in QUEUES[:3] for message in messages(500, queue=queue)]

    assert publisher.publish(sent, timeout=10) == [Outcome.CONFIRMED] * 1_500

    for queue in QUEUES[:3]:
        arrived = take_all(channel, queue)
        assert {properties.delivery_mode for properties, _ in arrived} == {2}
        assert Counter(properties.message_id for properties, _ in arrived) == Counter(
            each.id for each in sent if each.queue_name == queue
        )


def test_a_message_larger_than_a_frame_arrives_whole(
    amqp_url: str, channel: BlockingChannel
) -> None:
    large = SetMessage(queue_name=ONE, actor_name="any", row_ids=range(10**18, 10**18 + 1_000))
    with closing(
        ConfirmedPublisher(f"{amqp_url}?frame_max=4096", queue_names=QUEUES, on_ready=lambda: None)
    ) as publisher:
        wait_until(lambda: publisher.is_ready)
        assert publisher.publish([large, *messages(1)], timeout=10) == [Outcome.CONFIRMED] * 2

    [(properties, body), _] = take_all(channel, ONE)
    assert properties.message_id == large.id
    assert len(body) > 4096
    assert SetMessage.decode(body) == SetMessage(
        queue_name=ONE, actor_name="any", row_ids=list(large.row_ids), id=large.id
    )


def test_messages_of_many_threads_at_once_are_all_confirmed(
    publisher: ConfirmedPublisher, channel: BlockingChannel
) -> None:
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: publisher.publish(messages(300), timeout=10), range(4)))

    assert outcomes == [[Outcome.CONFIRMED] * 300] * 4
    assert count_waiting(channel, ONE) == 1_200


def test_a_message_to_a_deleted_queue_is_returned_and_the_queue_comes_back(
    publisher: ConfirmedPublisher, channel: BlockingChannel
) -> None:
    channel.queue_delete(ONE)
    before = publisher.disruptions

    outcomes = publisher.publish([*messages(2), *messages(1, queue=QUEUES[1])], timeout=5)

    assert outcomes == [Outcome.RETURNED, Outcome.RETURNED, Outcome.CONFIRMED]
    assert publisher.disruptions > before
    # What is declared for a return waits for its own answers, and messages may overtake it.
    wait_until(lambda: publisher.publish(messages(1), timeout=5) == [Outcome.CONFIRMED])
    wait_until(lambda: count_waiting(channel, ONE) == 1)


def test_messages_whose_confirms_are_cut_off_are_lost_and_never_confirmed(
    publisher: ConfirmedPublisher, proxy: Proxy, channel: BlockingChannel
) -> None:
    proxy.hold(answers_only=True)
    with ThreadPoolExecutor(1) as pool:
        outcomes = pool.submit(publisher.publish, messages(20), timeout=10)
        wait_until(lambda: count_waiting(channel, ONE) == 20)
        proxy.cut()
        assert outcomes.result() == [Outcome.LOST] * 20
    proxy.release()

    wait_until(lambda: publisher.is_ready)
    assert publisher.publish(messages(5), timeout=5) == [Outcome.CONFIRMED] * 5
    assert proxy.connections == 2
    assert publisher.disruptions == 2


def test_a_connection_cut_in_the_middle_of_a_batch_confirms_only_what_arrived(
    publisher: ConfirmedPublisher, proxy: Proxy, channel: BlockingChannel
) -> None:
    sent = messages(20_000)
    with ThreadPoolExecutor(1) as pool:
        outcomes = pool.submit(publisher.publish, sent, timeout=20)
        wait_until(lambda: count_waiting(channel, ONE) >= 1_000)
        proxy.cut()
        by_outcome = Counter(outcomes.result())

    assert by_outcome.keys() == {Outcome.CONFIRMED, Outcome.LOST}
    confirmed = {
        each.id
        for each, outcome in zip(sent, outcomes.result(), strict=True)
        if outcome is Outcome.CONFIRMED
    }
    assert confirmed <= {properties.message_id for properties, _ in take_all(channel, ONE)}


def test_messages_in_a_black_hole_time_out_and_late_confirms_settle_no_other_message(
    publisher: ConfirmedPublisher, proxy: Proxy, channel: BlockingChannel
) -> None:
    proxy.hold()
    started = time.monotonic()
    assert publisher.publish(messages(600), timeout=0.4) == [Outcome.TIMED_OUT] * 600
    assert 0.4 <= time.monotonic() - started < 1
    # The window is full of messages without an answer.
    assert publisher.publish(messages(1), timeout=0.1) == [Outcome.TIMED_OUT]

    proxy.release()

    assert publisher.publish(messages(3), timeout=5) == [Outcome.CONFIRMED] * 3
    assert proxy.connections == 1
    # What was given up on before it was sent is not sent any more.
    assert count_waiting(channel, ONE) == 512 + 3


@dataclass(frozen=True)
class Told:
    """An event, as far as publishing is concerned."""

    id: str
    exchange: str = EVENT_EXCHANGE
    routing_key: str = "order.received"
    content_type: str = "text/plain"
    mandatory: bool = False

    def encode(self) -> bytes:
        return b""


def test_events_without_an_answer_do_not_fill_the_window_for_ever(proxy: Proxy) -> None:
    with closing(
        ConfirmedPublisher(proxy.url, exchange=EVENT_EXCHANGE, on_ready=lambda: None)
    ) as publisher:
        wait_until(lambda: publisher.is_ready)
        proxy.hold(answers_only=True)
        told = [Told(str(number)) for number in range(512)]
        assert publisher.publish(told, timeout=0.2) == [Outcome.TIMED_OUT] * 512
        proxy.release()
        wait_until(lambda: proxy.connections == 2 and publisher.is_ready)
        assert publisher.publish(told[:9], timeout=5) == [Outcome.CONFIRMED] * 9


def test_a_broker_that_cannot_be_reached_is_an_answer_and_not_an_error(
    amqp_url: str, channel: BlockingChannel
) -> None:
    with Proxy(amqp_url) as proxy, capture_logs() as logs:
        proxy.refuse()
        ready = threading.Event()
        with closing(
            ConfirmedPublisher(proxy.url, queue_names=QUEUES, on_ready=ready.set)
        ) as publisher:
            wait_until(lambda: count_events(logs, "broker.disconnected") >= 2)
            assert not publisher.is_ready
            assert publisher.publish(messages(3), timeout=1) == [Outcome.TIMED_OUT] * 3
            assert publisher.count_messages(timeout=1) is None

            proxy.accept()

            assert ready.wait(5)
            assert publisher.is_ready
            assert publisher.publish(messages(2), timeout=5) == [Outcome.CONFIRMED] * 2
            assert count_waiting(channel, ONE) == 2


def test_a_publisher_is_not_ready_from_the_moment_its_connection_is_cut(
    publisher: ConfirmedPublisher, proxy: Proxy
) -> None:
    proxy.refuse()

    wait_until(lambda: not publisher.is_ready, timeout=1)
    assert publisher.publish(messages(1), timeout=1) == [Outcome.TIMED_OUT]
    proxy.accept()
    wait_until(lambda: publisher.is_ready)


def test_a_queue_of_other_arguments_is_no_end_of_the_publisher(
    amqp_url: str, channel: BlockingChannel
) -> None:
    channel.queue_declare(ONE, durable=False)
    with (
        capture_logs() as logs,
        closing(
            ConfirmedPublisher(amqp_url, queue_names=QUEUES, on_ready=lambda: None)
        ) as publisher,
    ):
        wait_until(lambda: count_events(logs, "broker.channel_closed") >= 2)
        assert not publisher.is_ready
        channel.queue_delete(ONE)
        wait_until(lambda: publisher.is_ready)


def test_counting_tells_what_waits_and_brings_deleted_queues_back(
    publisher: ConfirmedPublisher, channel: BlockingChannel
) -> None:
    publisher.publish(messages(3), timeout=5)
    channel.queue_delete(QUEUES[1])
    channel.queue_delete(dead_letter_queue(QUEUES[1]))

    names = [name for each in QUEUES for name in (each, dead_letter_queue(each))]
    assert publisher.count_messages(timeout=2) == {**dict.fromkeys(names, 0), ONE: 3}

    assert count_waiting(channel, QUEUES[1]) == 0
    assert count_waiting(channel, dead_letter_queue(QUEUES[1])) == 0


def test_closing_ends_the_thread_whether_or_not_the_broker_answers(amqp_url: str) -> None:
    before = threads()
    with Proxy(amqp_url) as proxy:
        for moment in range(20):
            publisher = ConfirmedPublisher(proxy.url, queue_names=QUEUES, on_ready=lambda: None)
            time.sleep(moment / 200)  # while it starts, connects, opens, declares, waits
            if moment == 15:
                proxy.refuse()
                time.sleep(0.1)
            started = time.monotonic()
            publisher.close()
            assert threads() == before
            assert time.monotonic() - started < 2
