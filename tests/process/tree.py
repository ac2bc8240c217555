"""A command for the tests: a family of processes of which each is hard to find. Run as a script.

``tree.py SOCKET MODE…``: every member connects to SOCKET, says its name and pid, and holds the connection as
long as it lives. Modes: ``stubborn`` ignores SIGTERM, ``no-daemon`` leaves out the double fork, ``exit`` lets the
first process end with code 3 once the others are there.
"""

import os
import signal
import socket
import sys


def announce(path: str, name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.sendall(f"{name} {os.getpid()}\n".encode())
    assert sock.recv(1) == b"."  # the test has seen us
    return sock


def hold(path: str, name: str) -> None:
    announce(path, name).recv(1)  # for ever, or until the test that should have ended us is itself gone


def main(path: str, modes: list[str]) -> None:
    if "stubborn" in modes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "leaf" in modes:
        hold(path, "leaf")
    if os.fork() == 0:
        os.setsid()  # as an agent's shell tool does
        hold(path, "session")
    if "no-daemon" not in modes:
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                hold(path, "daemon")
            os._exit(0)
        os.waitpid(middle, 0)
    if os.fork() == 0:  # no mark survives in its environment
        arguments = [sys.executable, "-I", "-S", __file__, path, "leaf", *modes]
        os.execve(sys.executable, arguments, {})  # noqa: S606 - that is what is tested
    if "exit" in modes:
        announce(path, "root")
        os._exit(3)
    hold(path, "root")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
