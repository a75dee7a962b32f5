"""The pipeline: one stage, one queue, one actor."""

from slimtrack.domain.order import FINAL, JOURNEY, STAGES, TRANSITIONS, Status
from slimtrack.domain.schedule import DeliveryPolicy
from slimtrack.routing import BY_QUEUE, BY_STAGE, ROUTES, Schedule


def test_each_stage_has_one_queue_that_bears_its_name_and_one_actor() -> None:
    assert tuple(BY_STAGE) == STAGES
    assert {stage: route.queue_name for stage, route in BY_STAGE.items()} == {
        stage: f"orders.{stage}" for stage in STAGES
    }
    assert len({route.actor_name for route in BY_STAGE.values()}) == len(STAGES)


def test_a_route_is_found_by_its_queue() -> None:
    assert {route.queue_name: route for route in ROUTES.values()} == BY_QUEUE
    assert len(BY_QUEUE) == len(ROUTES)


def test_every_route_is_a_declared_move() -> None:
    assert all(route.stage in TRANSITIONS[status] for status, route in ROUTES.items())


def test_the_routes_lead_from_received_through_every_stage_to_a_final_status() -> None:
    status, passed = Status.RECEIVED, []
    while status in ROUTES:
        status = ROUTES[status].stage
        passed.append(status)

    assert tuple(passed) == JOURNEY
    assert status in FINAL


def test_a_failed_delivery_is_repeated_and_after_the_last_attempt_the_parcel_returns() -> None:
    schedule = Schedule({}, deliveries=DeliveryPolicy(pause=60.0, attempts=2))

    first, last = (
        schedule.after(Status.DELIVERY_FAILED, delivery_attempts=number) for number in (1, 2)
    )

    assert first == (Status.OUT_FOR_DELIVERY, 60.0)
    assert last == (Status.RETURNED, 60.0)
