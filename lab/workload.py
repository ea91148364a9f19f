"""A machine on a network: `python -m lab.workload NAME` answers HTTP on port 80 with its name and the client's address.

It answers `/generate_204` with status 204, like the services that detect captive portals.
"""

from __future__ import annotations

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """An HTTP server for both address families on one socket."""

    address_family = socket.AF_INET6
    daemon_threads = True


def handler(name: str) -> type[BaseHTTPRequestHandler]:
    """A handler that answers `NAME saw ADDRESS`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{name} saw {self.client_address[0].removeprefix('::ffff:')}\n".encode()
            if self.path == "/generate_204":
                self.send_response(204)
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            sys.stderr.write(f"{self.client_address[0]} {format % args}\n")

    return Handler


if __name__ == "__main__":
    Server(("::", 80), handler(sys.argv[1])).serve_forever()
