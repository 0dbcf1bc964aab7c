"""For a subprocess of the tests: no connection leaves this machine, every attempt is written down.

`environment(folder)` puts a sitecustomize.py first on its path, which Python runs before all else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CODE = """
import os, socket

LOCAL = ("localhost", "127.0.0.1", "::1", "", None)

def told(name, host):
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{name} {host}\\n")
    raise OSError(101, f"the network is closed: {name} {host}")

def looked_up(host, *arguments, _real=socket.getaddrinfo, **named):
    host = host.decode() if isinstance(host, bytes) else host
    return _real(host, *arguments, **named) if host in LOCAL else told("lookup", host)

class Closed(socket.socket):
    def connect(self, address):
        local = self.family == socket.AF_UNIX or str(address[0]) in LOCAL
        return super().connect(address) if local else told("connect", address)

    def connect_ex(self, address):
        local = self.family == socket.AF_UNIX or str(address[0]) in LOCAL
        return super().connect_ex(address) if local else told("connect", address)

    def sendto(self, data, *rest):
        local = self.family == socket.AF_UNIX or str(rest[-1][0]) in LOCAL
        return super().sendto(data, *rest) if local else told("sendto", rest[-1])

socket.socket, socket.getaddrinfo = Closed, looked_up
"""


def environment(folder: Path) -> dict[str, str]:
    """Variables of a subprocess whose attempts end in `folder`/network.log; its home is empty."""
    (folder / "sitecustomize.py").write_text(CODE, encoding="utf-8")
    kept = {
        key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH") if key in os.environ
    }
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return kept | {
        "PYTHONPATH": str(folder),
        "NETWORK_LOG": str(folder / "network.log"),
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }


def without_network() -> list[str]:
    """What to put before a command so that the system itself has no network, where it lets us."""
    command = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None:
        return []
    done = subprocess.run([*command, "true"], capture_output=True)
    return command if done.returncode == 0 else []
