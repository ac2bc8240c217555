"""A proxy before Postgres that cuts the connection at a commit: the one moment whose outcome a client cannot know."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

IDLE = b"Z\x00\x00\x00\x05I"
"""The server's word that it is ready again, outside a transaction."""


class Proxy:
    """``url`` leads through it. ``cut`` once set: ``before`` the server hears COMMIT, or ``after`` it has done it."""

    def __init__(self, url: str) -> None:
        self.cut: str | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="maf-cut-", dir="/tmp")
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        host, port = query.get("host") or parts.hostname or "localhost", query.get("port") or parts.port or 5432
        self._server = (str(host), int(port))
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        query |= {"host": self._folder.name, "port": "5432"}
        self.url = urlunsplit(parts._replace(netloc=user, query=urlencode(query, quote_via=quote)))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self._folder.name, ".s.PGSQL.5432")))
        self._listener.listen()
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for end in self._open:
            _end(end)
        self._folder.cleanup()

    def _connect(self) -> socket.socket:
        host, port = self._server
        if not host.startswith("/"):
            return socket.create_connection(self._server)
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._connect()
            self._open += [client, server]
            swallow = threading.Event()
            threading.Thread(target=self._up, args=(client, server, swallow), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server, swallow), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        while data := _read(client):
            if self.cut and b"COMMIT" in data:
                how, self.cut = self.cut, None
                if how == "before":
                    break
                swallow.set()
            try:
                server.sendall(data)
            except OSError:
                break
        _end(server)
        _end(client)

    def _down(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        while data := _read(server):
            if swallow.is_set():
                if data.endswith(IDLE):
                    break
                continue
            try:
                client.sendall(data)
            except OSError:
                break
        _end(client)
        _end(server)


def _read(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except OSError:
        return b""


def _end(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone already
    end.close()
