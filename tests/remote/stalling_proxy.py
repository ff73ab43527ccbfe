"""A ProxyCommand: passes bytes between ssh and a port, until a file says so; then the way out is stalled.

    python stalling_proxy.py HOST PORT LIMIT ARMED

While the file ARMED exists, no more than LIMIT bytes of a connection go out; `ARMED.reached` then says that it stands.
What is stalled ends when the other side ends: a test may kill it in the middle of a file.
"""

import os
import socket
import sys
import threading
from pathlib import Path

host, port, limit, armed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
connection = socket.create_connection((host, port))


def back():
    while data := connection.recv(1 << 16):
        os.write(1, data)
    os._exit(0)


threading.Thread(target=back, daemon=True).start()
sent = 0
while data := os.read(0, 4096):
    if sent > limit and Path(armed).exists():
        Path(f"{armed}.reached").touch()
        threading.Event().wait()
    connection.sendall(data)
    sent += len(data)
connection.shutdown(socket.SHUT_WR)
threading.Event().wait()
