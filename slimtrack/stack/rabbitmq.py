"""A private RabbitMQ node: its configuration and its probe."""

import socket
from typing import Final

from slimtrack.stack.directory import StateDirectory, account_for, locking
from slimtrack.stack.provision import Program
from slimtrack.stack.service import Service

#: The data belongs to this name, so it never changes; nobody looks it up, so that the nodes of
#: two stacks may both have it.
_NODE: Final = "slimtrack@localhost"

_SETTINGS: Final = """\
# Written anew at each start of the stack: changes are lost.
listeners.tcp.default = 127.0.0.1:{port}
default_user = slimtrack
default_pass = {password}
log.console = true
log.console.level = warning
log.file = false
# A client that went away, or only asked whether we are here, is no news.
log.connection.level = error
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 200MB
"""


def prepare(
    state: StateDirectory, program: Program, *, port: int, node_port: int
) -> tuple[Service, str]:
    """Return the server and its URL."""
    user = account_for("rabbitmq")
    password = state.secret("rabbitmq")
    home = state.folder("rabbitmq")
    data = state.folder("rabbitmq/data", user=user)
    settings = state.write(
        "rabbitmq/rabbitmq.conf", _SETTINGS.format(port=port, password=password), user=user
    )
    plugins = state.write("rabbitmq/enabled_plugins", "[].\n", user=user)
    state.write("rabbitmq/.erlang.cookie", state.secret("cookie"), user=user, mode=0o400)
    env = {
        **program.env,
        "HOME": str(home),
        # Nothing that the machine's own instance is configured with.
        "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
        "RABBITMQ_CONFIG_FILE": str(settings),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "none.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_LOG_BASE": str(data),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_LOG": "warning",  # also while it has not read its configuration yet
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_DIST_PORT": str(node_port),
        # A node that has its name already does not ask epmd for it, and starts none: that one
        # would be shared with the machine's own instance and outlive us.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            f"-sname {_NODE} -start_epmd false -erl_epmd_port {node_port}"
            f" -kernel inet_dist_listen_min {node_port} -kernel inet_dist_listen_max {node_port}"
            " -kernel inet_dist_use_interface {127,0,0,1}"
        ),
        # The start script becomes the Erlang machine instead of waiting for it, so that
        # signals, also the one that follows its parent's end, reach the server itself.
        "RABBITMQ_ALLOW_INPUT": "true",
    }
    service = Service(
        name="rabbitmq",
        # What the start script leaves out when it becomes Erlang: no shell, no SIGINT.
        command=locking(data, str(program.path), "-noinput", "+B", "i"),
        ready=lambda: answers(port),
        env=env,
        user=user,
        ready_timeout=120,
        address=f"amqp://127.0.0.1:{port}/",
    )
    return service, f"amqp://slimtrack:{password}@127.0.0.1:{port}/"


def answers(port: int, *, timeout: float = 1.0) -> bool:
    """Say whether the server speaks AMQP; it does so when all its parts have started."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(connection.recv(1))
    except OSError:
        return False
