"""A TCP proxy before a server that cuts connections at the worst moment."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

COPY_DONE = b"c\x00\x00\x00\x04"  # what a client sends last: the COMMIT behind it is in the script


class Proxy:
    """Passes bytes on; `cut` says what to do at the end of a COPY.

    "before": cut both sides, and the server never sees the end of the data.
    "after": give it to the server and cut the client off, so that COMMIT has no answer.
    "hold": cut the client off alone; the server goes on waiting for data.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut: str | None = None
        self.cuts = 0
        self.refuses = False
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            for pump, source, sink in (
                (self._to_server, client, server),
                (self._to_client, server, client),
            ):
                thread = threading.Thread(target=pump, args=(source, sink))
                self._threads.append(thread)
                thread.start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self.cut and COPY_DONE in data:
                    how, self.cut = self.cut, None
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)  # first: an answer could be quicker
                    if how == "after":
                        server.sendall(data)
                    if how != "hold":
                        server.shutdown(socket.SHUT_WR)
                    return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def cut_all(self) -> None:
        """Cut every connection there is, and let no other through until `refuses` is False."""
        self.refuses = True
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # shutdown wakes the thread in accept(), close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()
