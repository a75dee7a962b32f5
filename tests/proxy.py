"""A TCP proxy that stands between a process under test and a server, and is a bad network."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from slimtrack.stack.directory import free_ports

#: What sees all that the client, and all that the server of one connection says.
Watchers = tuple[Callable[[bytes], object], Callable[[bytes], object]]


def unwatched() -> Watchers:
    return len, len


class Proxy:
    """Forwards every connection to one server until it is told otherwise.

    ``cut`` ends the connections there are; ``refuse`` those to come as well, until ``accept``.
    ``hold`` lets nothing through, or nothing of what the server says, until ``release``; what was
    held arrives then, unless its connection was cut. ``watch`` is asked for every connection.
    """

    def __init__(self, url: str, *, watch: Callable[[], Watchers] = unwatched) -> None:
        self._watch = watch
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._port = free_ports(1)[0]
        host, _, rest = url.partition(f":{parts.port}")
        self.url = f"{host}:{self._port}{rest}"
        self._to_server = threading.Event()
        self._to_client = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.release()
        self.accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self.release()
        for thread in self._threads:
            thread.join(timeout=5)

    def accept(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._accepting = self._start(self._serve, self._listener)

    def refuse(self) -> None:
        with suppress(OSError):  # it is closed already, or this wakes the thread that waits in it
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def hold(self, *, answers_only: bool = False) -> None:
        self._to_client.clear()
        if not answers_only:
            self._to_server.clear()

    def release(self) -> None:
        self._to_client.set()
        self._to_server.set()

    def _start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.connections += 1
                try:
                    server = socket.create_connection(self._target)
                except OSError:  # it is down: the client hears so at once
                    client.close()
                    continue
                self._sockets.update((client, server))
                by_client, by_server = self._watch()
                self._start(self._forward, client, server, self._to_server, by_client)
                self._start(self._forward, server, client, self._to_client, by_server)

    def _forward(
        self,
        source: socket.socket,
        sink: socket.socket,
        may_pass: threading.Event,
        see: Callable[[bytes], object],
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                may_pass.wait()
                see(data)
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        # The reading end is this thread's alone to close: no other may still be waiting in it.
        self._sockets.discard(source)
        source.close()
