"""Whether Redis answers: quick probes that never raise."""

from typing import Final

#: Seconds that it has to answer.
_TIMEOUT: Final = 1.0


def redis_version(redis_url: str) -> str | None:
    """Return the version of Redis, None where it does not answer."""
    import redis  # noqa: PLC0415 - as below

    try:
        with redis.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=None
        ) as client:
            return str(client.info("server").get("redis_version", ""))
    except redis.RedisError:
        return None


def redis_answers(redis_url: str) -> bool:
    """Send a PING."""
    # Takes longer to import than all else that a command needs, and only the API asks.
    import redis  # noqa: PLC0415 - as above

    try:
        with redis.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=None
        ) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
