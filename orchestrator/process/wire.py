"""Messages between maf, its supervisor and the keepers: a length, JSON, and open files alongside."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct("!I")
_MOST_FILES = 4


def send(sock: socket.socket, message: Message, files: Sequence[int] = ()) -> None:
    """Write one whole message. Raises OSError when the other side is gone."""
    # ASCII JSON keeps the lone surrogates of undecodable arguments and paths intact.
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    head = _LENGTH.pack(len(body))
    if files:
        sent = socket.send_fds(sock, [head], list(files))
        sock.sendall(head[sent:] + body)
    else:
        sock.sendall(head + body)


def receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """Read one whole message and the files that came with it (close-on-exec); None when the other side ended."""
    files: list[int] = []
    head = b""
    try:
        while len(head) < _LENGTH.size:
            data, received, _, _ = socket.recv_fds(sock, _LENGTH.size - len(head), _MOST_FILES)
            for descriptor in received:
                os.set_inheritable(descriptor, False)
            files += received
            if not data:
                raise EOFError
            head += data
        body = bytearray()
        (length,) = _LENGTH.unpack(head)
        while len(body) < length:
            data = sock.recv(min(length - len(body), 1 << 20))
            if not data:
                raise EOFError
            body += data
    except (EOFError, ConnectionError):
        close(files)
        return None
    message: Message = json.loads(body)
    return message, files


def close(files: Sequence[int]) -> None:
    """Close them all."""
    for descriptor in files:
        os.close(descriptor)
