"""The agent pulls over file, ssh (as all of the lab does) and https with a token that shows up nowhere."""

from __future__ import annotations

import base64
import os
import secrets
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.repository import git
from reconciler.system.wg_key import generate_private, public_key
from tests.namespaces import private_network

pytestmark = [pytest.mark.lab, pytest.mark.root]

TOKEN = f"t0ken-that-nobody-may-see-{secrets.token_hex(8)}"
"""Another one in every run: two of them at a time do not see each other's."""
BASIC = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
FILES = {
    "fabric.yaml": "fabric: small\nversion: 1\n",
    "a.yaml": "site: a\nkind: datacenter\nhosts:\n  a-gw: {underlay: {interface: eth0, addresses: [192.0.2.10/24]}}\n",
}
CONFIG = """\
host: a-gw
source:
  git: {url}
{more}
  timeout: 10s
state: {folder}/state
socket: {folder}/agent.sock
keys: {folder}/keys
metrics: off
"""


@dataclass
class Asked:
    """What a server was asked, and which command lines ran on the machine meanwhile."""

    authorizations: list[str] = field(default_factory=list)
    command_lines: list[str] = field(default_factory=list)


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that vouches for itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "git server of a test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "server.pem"
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


def handler(root: Path, asked: Asked) -> type[BaseHTTPRequestHandler]:
    """`git http-backend` for whoever has the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _answer(self, body: bytes) -> None:
            authorization = self.headers.get("Authorization", "")
            asked.authorizations.append(authorization)
            asked.command_lines += command_lines()
            if authorization != f"Basic {BASIC}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            head, _, content = self._backend(body).partition(b"\r\n\r\n")
            self.send_response(200)
            for line in head.decode().splitlines():
                self.send_header(*line.split(": ", 1))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _backend(self, body: bytes) -> bytes:
            path, _, query = self.path.partition("?")
            environment = {
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "PATH": os.environ["PATH"],
            }
            command = ["git", "http-backend"]
            return subprocess.run(command, input=body, env=environment, capture_output=True, check=True).stdout

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def command_lines() -> list[str]:
    """Of all processes on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it ended meanwhile
    return found


@dataclass
class Place:
    """A host with an agent that pulls from somewhere."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def repository(self) -> Path:
        return self.folder / "wan.git"

    def configure(self, url: str, more: str = "") -> None:
        (self.folder / "agent.yaml").write_text(CONFIG.format(url=url, more=more, folder=self.folder))

    def once(self) -> tuple[int, str]:
        """One cycle: exit code, and all that the agent said."""
        command = [sys.executable, "-m", "gitwan", "agent", "run", "--once"]
        done = subprocess.run(
            [*command, "--config", str(self.folder / "agent.yaml")],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    def written(self) -> str:
        """Everything that the agent wrote to its folder."""
        files = [path for path in (self.folder / "state").rglob("*") if path.is_file()]
        assert files
        return "\n".join(path.read_bytes().decode(errors="replace") for path in files)


@pytest.fixture
def place(_root: None, tmp_path: Path) -> Iterator[Place]:
    work = tmp_path / "work"
    (work / "keys").mkdir(parents=True)
    for name, text in {**FILES, "keys/a-gw.pub": public_key(generate_private()) + "\n"}.items():
        (work / name).write_text(text)
    git(work, "init", "-q", "-b", "main")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "small")
    git(tmp_path, "clone", "-q", "--bare", str(work), str(tmp_path / "wan.git"))
    with private_network():
        yield Place(tmp_path)


@pytest.fixture
def asked(place: Place) -> Iterator[Asked]:
    """A server for the place's repository, and what it was asked."""
    found = Asked()
    pem = certificate(place.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(place.folder, found)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        place.environment["GIT_SSL_CAINFO"] = str(pem)
        (place.folder / "token").write_text(TOKEN + "\n")
        place.configure(f"https://127.0.0.1:{server.server_port}/wan.git", f"  token_file: {place.folder}/token")
        yield found
        server.shutdown()
        thread.join()


def test_over_file(place: Place) -> None:
    place.configure(f"file://{place.repository}")
    code, said = place.once()
    assert code == 0, said


def test_over_https_with_a_token_that_shows_up_nowhere(place: Place, asked: Asked) -> None:
    code, said = place.once()
    assert code == 0, said
    assert set(asked.authorizations) == {f"Basic {BASIC}"}
    assert any("git-remote-https" in line for line in asked.command_lines)
    for secret in (TOKEN, BASIC):
        assert secret not in said
        assert secret not in place.written()
        assert not any(secret in line for line in asked.command_lines)


def test_a_wrong_token_is_a_condition_that_says_so(place: Place, asked: Asked) -> None:
    (place.folder / "token").write_text("wr0ng\n")
    code, said = place.once()
    assert code == 1
    assert "Fetched=False AccessDenied: git fetch: the server refused access (fatal: could not read" in said
    assert "https://127.0.0.1:" in said
    assert "wr0ng" not in said + place.written()


def test_a_token_that_cannot_be_read_is_named(place: Place, asked: Asked) -> None:
    (place.folder / "token").unlink()
    code, said = place.once()
    assert code == 1
    assert f"Fetched=False TokenUnreadable: cannot read {place.folder}/token" in said
    assert asked.authorizations == []


def test_a_server_that_nobody_vouches_for_gets_no_token(place: Place, asked: Asked) -> None:
    del place.environment["GIT_SSL_CAINFO"]
    code, said = place.once()
    assert code == 1
    assert "Fetched=False" in said and "certificate" in said
    assert asked.authorizations == []
