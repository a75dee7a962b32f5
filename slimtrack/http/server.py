"""The configuration of gunicorn: ``gunicorn --config python:slimtrack.http.server …``.

The names are those of gunicorn's settings.
"""

import logging
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any, Final

from slimtrack.domain.errors import SettingsError
from slimtrack.process import die_with_parent
from slimtrack.settings import Settings
from slimtrack.telemetry import logs
from slimtrack.telemetry.sharing import forget_metrics, share_metrics

try:
    _settings: Final = Settings.from_environment()
    if _settings.metrics_bind:
        # Now, before gunicorn imports the worker class, and prometheus-client with it.
        share_metrics(master=os.getpid())
except SettingsError as error:
    sys.exit(str(error))

bind = _settings.api_bind
forwarded_allow_ips = ",".join(map(str, _settings.trusted_proxies))
worker_class = "slimtrack.http.gunicorn_worker.SlimWorker"
workers = _settings.api_workers
threads = _settings.api_threads
# Connections are made after the fork: two processes cannot share one.
preload_app = False
# The heartbeat of the workers is a file; on a disk it waits for the disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - as above
# A socket that commands the server, in a place that others may write to, is of no use here.
control_socket_disable = True

# A request takes 2 s to get a connection and 5 s for its statement, at most.
graceful_timeout = 15
# Longer than the 60 s of the usual proxies: who closes last decides, and a request may be under
# way while the server closes.
keepalive = 75

#: Seconds that a caller may neither send nor take a byte in the middle of a request. How long one
#: may take in all, the worker class knows.
_STALLED: Final = 5

limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190

# Without a handler of its own, and see on_starting.
errorlog = None
loglevel = _settings.log_level


def on_starting(server: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Have gunicorn's own lines written like all others; the workers inherit this."""
    logs.configure(level=_settings.log_level, form=_settings.log_format)
    logging.getLogger("gunicorn.error").propagate = True


def when_ready(server: Any) -> None:
    """Let no caller hold a thread for ever: accepted sockets inherit the time-outs."""
    for listener in server.LISTENERS:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _STALLED, 0))


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """End with the master, however it ends: an orphan would keep the port."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != worker.ppid:  # it ended before it could be watched
        sys.exit()
    # 1,000 connections and as many streams are more than the usual 1,024 files; a worker that may
    # not accept ends.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Take back what only a living worker measures; what it has counted stays."""
    if _settings.metrics_bind:
        # Not above: it looks at the environment when it is imported.
        from prometheus_client import multiprocess  # noqa: PLC0415 - as above

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Leave nothing behind."""
    if _settings.metrics_bind:
        forget_metrics(master=os.getpid())
