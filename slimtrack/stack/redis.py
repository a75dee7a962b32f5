"""A private Redis: its configuration and its probe."""

from functools import partial
from typing import Final

from slimtrack.redis.probes import redis_answers
from slimtrack.stack.directory import StateDirectory, account_for, locking
from slimtrack.stack.provision import Program
from slimtrack.stack.service import Service

_SETTINGS: Final = """\
# Written anew at each start of the stack: changes are lost.
bind 127.0.0.1
port {port}
requirepass {password}
dir {data}
appendonly yes
save ""
maxmemory 256mb
# A full cache forgets what was not asked for lately: histories, not the counters of callers.
maxmemory-policy volatile-lru
maxmemory-samples 10
"""


def prepare(state: StateDirectory, program: Program, *, port: int) -> tuple[Service, str]:
    """Return the server and its URL."""
    user = account_for("redis")
    password = state.secret("redis")
    state.folder("redis")
    data = state.folder("redis/data", user=user)
    settings = state.write(
        "redis/redis.conf",
        _SETTINGS.format(port=port, password=password, data=data),
        user=user,
    )
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    service = Service(
        name="redis",
        command=locking(data, str(program.path), str(settings)),
        ready=partial(redis_answers, url),
        env=program.env,
        user=user,
        address=f"redis://127.0.0.1:{port}/0",
    )
    return service, url
