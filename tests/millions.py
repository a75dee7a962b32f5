"""A database with a million orders, and all else that there is of a system that is long in use."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

from slimtrack.bootstrap.database import CALLER_SESSION
from slimtrack.sql.pool import open_pool

ORDERS: Final = 1_000_000
#: That nobody has decided about, and that somebody has discarded.
DEAD_LETTERS: Final = 10_000
DISCARDED: Final = 1_000
#: Causes of dead letters.
CAUSES: Final = 40
#: Beside the default one and a small one: each has ten orders.
TENANTS: Final = 100
#: Rows of the outbox, of each of four kinds: waiting, due, in flight, late.
ROWS: Final = 2_000
#: Dead letters that were replayed at once.
REPLAYED: Final = 10_000
#: What that was called.
OPERATION: Final = "dashboard-0123456789abcdef"
#: The most events that an order may have; this one has them, and 100 incidents.
EVENTS: Final = 1_000
BUSIEST: Final = 700_001

#: When the first order is made; one follows every second, and is delivered after six hours.
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
#: When every hundredth of all those orders is corrected.
CORRECTED: Final = datetime(2026, 2, 1, tzinfo=UTC)
#: When some late reports come in.
LATELY: Final = datetime(2026, 2, 2, tzinfo=UTC)

_TIMES: Final = {"start": START, "corrected": CORRECTED, "lately": LATELY}

_TENANTS: Final = """
INSERT INTO tenants (name) SELECT 'small' UNION ALL SELECT 'shop ' || n
  FROM generate_series(1, %(tenants)s::integer) AS n
"""

#: Makes an id function, so that each statement can name the n-th order.
_ID_OF: Final = """
CREATE FUNCTION id_of(n bigint) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$
    SELECT (lpad(to_hex((extract(epoch FROM timestamptz '2026-01-01 00:00Z') * 1000)::bigint
                        + n * 1000), 12, '0')
            || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid
$$
"""

_ORDERS: Final = """
WITH filled AS (
INSERT INTO orders (id, tenant_id, reference, description, metadata, flow, status, version,
                    status_sequence, created_at, updated_at)
SELECT id_of(n),
       CASE WHEN n %% 1000 = 0 THEN 2 WHEN n %% 1000 = 500 THEN 3 + n / 1000 %% %(tenants)s
            ELSE 1 END,
       'PO-' || n, 'A parcel',
       CASE WHEN n %% 10000 = 1 THEN '{"city": "Berlin"}'
            WHEN n %% 5 = 2 AND n < 900000 THEN '{"gift": "yes"}' ELSE '{}' END::jsonb, 'simulated',
       CASE WHEN n %% 100000 = 7 THEN 'lost' WHEN n %% 5000 = 9 THEN 'received'
            ELSE 'delivered' END,
       2, 2, made,
       CASE WHEN n %% 2000 = 4 THEN %(lately)s WHEN n %% 100 = 3 THEN %(corrected)s
            ELSE made + interval '6 hours' END
  FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
 CROSS JOIN LATERAL (SELECT %(start)s::timestamptz + n * interval '1 s' AS made) AS times
RETURNING id, tenant_id, status, created_at, updated_at
), located AS (
INSERT INTO order_statuses (order_id, tenant_id, status, updated_at)
SELECT id, tenant_id, status, updated_at FROM filled
)
INSERT INTO order_events (order_id, sequence, status, message, idempotency_key, occurred_at,
                          recorded_at)
SELECT id, sequence, CASE sequence WHEN 1 THEN 'received' ELSE status END, 'It happened',
       id || ':' || sequence, at, at
  FROM filled
 CROSS JOIN LATERAL (VALUES (1, created_at), (2, updated_at)) AS events (sequence, at)
"""

_DEAD_LETTERS: Final = """
INSERT INTO dead_letters (outbox_id, stage, order_id, from_sequence, publications, attempts,
                          correlation_id, created_at, actor, queue, error_type, error, traceback,
                          fingerprint, died_at, discarded_at, discard_reason)
SELECT n, (ARRAY['processing', 'in_transit', 'out_for_delivery', 'delivered'])[1 + cause %% 4],
       id_of(n * 89), 1, 4, 4, 'request-' || n, now() - interval '2 hours', 'start_processing',
       'orders.processing', (ARRAY['CarrierError', 'TimeoutError', 'KeyError'])[1 + cause %% 3],
       'The carrier ' || cause || ' did not take parcel ' || n || ': ' || repeat('x', 100),
       repeat('  File "work.py", line 1, in book' || chr(10), 50), 'cause ' || cause,
       now() - n * interval '10 s',
       CASE WHEN n > %(dead_letters)s THEN now() END,
       CASE WHEN n > %(dead_letters)s THEN 'lost for good' END
  FROM generate_series(1, %(dead_letters)s::bigint + %(discarded)s::bigint) AS n
 CROSS JOIN LATERAL (
    SELECT least(n * 7919 %% %(causes)s::bigint, n * 31 %% %(causes)s::bigint) AS cause) AS causes
"""

_INCIDENTS: Final = """
INSERT INTO order_incidents (order_id, number, kind, stage, from_sequence, attempt, error_type,
                             error, happened_at)
SELECT order_id, number, CASE number WHEN 5 THEN 'dead_letter' ELSE 'failed' END, stage,
       from_sequence, number, error_type, error, died_at - (5 - number) * interval '20 s'
  FROM dead_letters
 CROSS JOIN generate_series(1, 5) AS number
"""

#: Rows that were replayed, of which some are dead again.
_REPLAY: Final = """
WITH acted AS (
    INSERT INTO operator_actions (action, operation, operator, reason, selection, affected,
                                  expected)
    SELECT 'replay', CASE n WHEN 1 THEN %(operation)s ELSE 'operation ' || n END, 'key 1',
           'the carrier is back', '{"stage": "processing"}', %(replayed)s, %(replayed)s
      FROM generate_series(1, 500) AS n
    RETURNING acted_at
)
INSERT INTO order_incidents (order_id, number, kind, stage, from_sequence, operator, reason,
                             happened_at)
SELECT id_of(n * 87), 6, 'replayed', 'processing', 1, 'key 1', 'the carrier is back',
       (SELECT acted_at FROM acted LIMIT 1)
  FROM generate_series(1, %(replayed)s::bigint) AS n
"""

_OUTBOX: Final = """
INSERT INTO outbox (stage, order_id, from_sequence, available_at, published_at, publications,
                    attempts, last_error, created_at)
SELECT (ARRAY['processing', 'in_transit', 'out_for_delivery', 'delivered'])[1 + n %% 4],
       id_of(n * 83), 1,
       CASE kind WHEN 'waiting' THEN now() + interval '1 hour' + n * interval '1 s'
                 ELSE now() - n * interval '10 ms' END,
       CASE kind WHEN 'in flight' THEN now() - n * interval '10 ms' END,
       CASE kind WHEN 'in flight' THEN 1 ELSE 0 END, n %% 3, 'A failure',
       CASE kind WHEN 'late' THEN now() - interval '2 days' ELSE now() END
  FROM unnest(ARRAY['waiting', 'due', 'in flight', 'late']) WITH ORDINALITY AS kinds (kind, number)
 CROSS JOIN LATERAL generate_series((number - 1) * %(rows)s::bigint,
                                    number * %(rows)s::bigint - 1) AS n
"""

#: Of the last day, as they are kept.
_SAMPLES: Final = """
INSERT INTO samples (taken_at, oldest_due, dead_letters, stuck, statuses)
SELECT date_bin('10 s', now(), 'epoch') - n * interval '10 s', 0.1, 2000, 7,
       (SELECT jsonb_object_agg(status, '{"rate": 12.345, "p50": 0.0123, "p90": 0.0456}'::jsonb)
          FROM unnest(ARRAY['received', 'processing', 'in_transit', 'out_for_delivery',
                            'delivered']) AS status)
  FROM generate_series(0, 8639) AS n
"""

_BUSIEST: Final = """
WITH told AS (
    UPDATE orders SET version = %(events)s WHERE id = id_of(%(busiest)s)
), happened AS (
    INSERT INTO order_incidents (order_id, number, kind, stage, from_sequence, attempt, error_type,
                                 error)
    SELECT id_of(%(busiest)s), n, 'failed', 'processing', n, 1, 'CarrierError', repeat('x', 500)
      FROM generate_series(1, 100) AS n
)
INSERT INTO order_events (order_id, sequence, status, message, kind, corrects, reason, location,
                          source, idempotency_key)
SELECT id_of(%(busiest)s), n, 'delivered', repeat('A remark. ', 20), 'correction', 1,
       'somebody says so', 'Berlin', 'key 1', id_of(%(busiest)s) || ':' || n
  FROM generate_series(3, %(events)s::integer) AS n
"""


@pytest.fixture(scope="session")
def million(servers: Mapping[str, str], template: str) -> Iterator[str]:
    """A database with a million orders of many tenants, and their two million events."""
    names = {"name": sql.Identifier("million"), "template": sql.Identifier(template)}
    url = servers["DATABASE_URL"].rpartition("/")[0] + "/million"
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**names))
        fill(url)
        yield url
        connection.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


@pytest.fixture(scope="module")
def million_pool(million: str) -> Iterator[ConnectionPool]:
    """A connection like those of the API."""
    with open_pool(
        million, application_name="test", size=1, options=CALLER_SESSION, timeout=5
    ) as opened:
        yield opened


def fill(url: str) -> None:
    """Fill a migrated, empty database."""

    def add_orders(first: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            last = first + ORDERS // 2 - 1
            connection.execute(
                _ORDERS, {"first": first, "last": last, "tenants": TENANTS, **_TIMES}
            )

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_ID_OF)
        connection.execute(_TENANTS, {"tenants": TENANTS})
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(add_orders, [1, 1 + ORDERS // 2]))
        figures = {
            "dead_letters": DEAD_LETTERS,
            "discarded": DISCARDED,
            "causes": CAUSES,
            "operation": OPERATION,
            "replayed": REPLAYED,
            "rows": ROWS,
            "events": EVENTS,
            "busiest": BUSIEST,
        }
        for statement in (_DEAD_LETTERS, _INCIDENTS, _REPLAY, _SAMPLES, _BUSIEST):
            connection.execute(statement, figures)
        # The outbox is nearly always empty when it is analysed: it is filled after that.
        connection.execute("VACUUM ANALYZE")
        connection.execute(_OUTBOX, figures)
