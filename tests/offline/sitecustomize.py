"""Keep Python on this machine: refuse every other address, and write down who asked.

Python runs this file at its start when the folder is on PYTHONPATH, so the notebooks' kernels obey
too. A refusal alone would not tell: a fallback swallows the error. The log does, and the tests
demand that it is empty.
"""

import os
import sys

HERE = ("127.", "::1", "localhost", "0.0.0.0")


def leaves_this_machine(event: str, args: tuple) -> str | None:
    """The foreign host that an audit event is about to reach, if it is one."""
    if event == "socket.connect":
        address = args[1]
        host = address[0] if isinstance(address, tuple) else ""  # a path is a local socket
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return None
    host = host.decode() if isinstance(host, bytes) else str(host or "")
    return host if host and not host.startswith(HERE) else None


def refuse(event: str, args: tuple) -> None:
    """An audit hook: raise for what leaves this machine, after logging it."""
    host = leaves_this_machine(event, args)
    if host is None:
        return
    log = os.environ.get("COMPANION_OFFLINE_LOG")
    if log:
        with open(log, "a", encoding="utf-8") as lines:
            lines.write(f"{event} {host} by {' '.join(sys.argv)[:80]}\n")
    raise ConnectionRefusedError(f"{host}: the tests run with no network")


if os.environ.get("COMPANION_OFFLINE_LOG"):
    sys.addaudithook(refuse)
