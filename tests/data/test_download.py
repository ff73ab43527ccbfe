import hashlib
import http.server
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeattn.data.download import fetch
from edgeattn.errors import DataError, StorageError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at any path but /absent and /onward; for the first `cuts` requests at most `cut` bytes of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.resumes = True
        self.cuts, self.cut = 0, 0
        self.busy = 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        server.paths.append(self.path)
        if self.path == "/absent":
            self.send_error(404)
        elif self.path == "/onward":
            self.send_response(302)
            self.send_header("Location", "http://[bad")
            self.end_headers()
        elif server.busy:
            server.busy -= 1
            self.send_error(503)
        else:
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.resumes else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            body = CONTENT[start:]
            if server.cuts:
                server.cuts -= 1
                body = body[: server.cut]
            self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, path: Path, sha256: str = SHA256, *, name: str = "set.tar", **options) -> Path:
    return fetch(f"{server.url}/{name}", sha256, path, **{"pause_s": 0.0, **options})


def left(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir() if not file.name.endswith(".lock"))


def test_fetch_checks_renames_and_is_done_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "below" / "set.tar"
    seen: list[tuple[int, int | None]] = []
    assert get(server, path, size_bytes=len(CONTENT), progress=lambda *step: seen.append(step)) == path
    assert path.read_bytes() == CONTENT
    assert left(path) == ["set.tar"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [have for have, _ in seen] == sorted({have for have, _ in seen})
    get(server, path, SHA256.upper())
    assert server.ranges == [None]


def test_a_cut_transfer_is_resumed_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts, server.cut = 2, 300_000
    get(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_a_later_call_resumes_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    server.cuts, server.cut = 1, 300_000
    with pytest.raises(DataError, match=r"after 1 attempt.*300000 of 1024000 bytes.*resume"):
        get(server, tmp_path / "set.tar", attempts=1)
    assert left(tmp_path / "set.tar") == [".set.tar.part"]
    get(server, tmp_path / "set.tar", attempts=1)
    assert server.ranges == [None, "bytes=300000-"]
    assert left(tmp_path / "set.tar") == ["set.tar"]


def test_a_server_that_cannot_resume_starts_over(server: Server, tmp_path: Path) -> None:
    server.resumes, server.cuts, server.cut = False, 1, 1000
    get(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"another version", CONTENT + b"longer", b""])
def test_a_stale_partial_file_is_thrown_away(server: Server, tmp_path: Path, stale: bytes) -> None:
    (tmp_path / ".set.tar.part").write_bytes(stale)
    get(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_a_complete_partial_file_needs_no_transfer(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".set.tar.part").write_bytes(CONTENT)
    get(server, tmp_path / "set.tar")
    assert server.ranges == []
    assert left(tmp_path / "set.tar") == ["set.tar"]


def test_wrong_checksum_says_both_and_keeps_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"SHA-256 {SHA256}, expected {'0' * 64}; nothing was kept"):
        get(server, tmp_path / "set.tar", "0" * 64)
    assert left(tmp_path / "set.tar") == []


def test_wrong_size_ends_before_the_transfer(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1024000 bytes or more, expected 5; nothing was kept"):
        get(server, tmp_path / "set.tar", size_bytes=5)
    assert left(tmp_path / "set.tar") == []


def test_an_existing_file_with_other_content_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match="delete it to download it again"):
        get(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == b"mine"


def test_a_busy_server_is_asked_again_an_absent_file_is_not(server: Server, tmp_path: Path) -> None:
    server.busy = 2
    get(server, tmp_path / "set.tar")
    assert len(server.ranges) == 3
    with pytest.raises(DataError, match="answered 404 Not Found; check the address"):
        get(server, tmp_path / "other.tar", name="absent")
    assert len(server.ranges) == 4
    server.busy = 9
    with pytest.raises(DataError, match=r"after 3 attempt.*503"):
        get(server, tmp_path / "other.tar", attempts=3)


def test_no_network(tmp_path: Path) -> None:
    with Server() as closed:
        url = closed.url
    with pytest.raises(DataError, match=r"after 2 attempt.*refused.*check the network"):
        fetch(url, SHA256, tmp_path / "x", attempts=2, pause_s=0.0)


def test_a_silent_server_times_out(tmp_path: Path) -> None:
    # Accepts the connection (backlog of the listening socket) and never answers.
    with Server() as silent, pytest.raises(DataError, match=r"after 1 attempt.*timed out"):
        fetch(silent.url, SHA256, tmp_path / "x", attempts=1, timeout_s=0.1)


def test_file_addresses_and_others(tmp_path: Path) -> None:
    (tmp_path / "origin").write_bytes(CONTENT)
    fetch((tmp_path / "origin").as_uri(), SHA256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    with pytest.raises(DataError, match="cannot be read"):
        fetch((tmp_path / "absent").as_uri(), SHA256, tmp_path / "other")
    for url in ("ftp://example.org/x", "data:,x", "x.tar"):
        with pytest.raises(DataError, match="only http, https and file"):
            fetch(url, SHA256, tmp_path / "other")


def test_a_destination_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        get(server, tmp_path / "file" / "set.tar")


def test_addresses_are_sent_in_their_own_characters(server: Server, tmp_path: Path) -> None:
    for number, name in enumerate(("bücher.tar", "my set.tar", "%62%C3%BC.tar?x=ü&y=1#part", "日本.tar")):
        get(server, tmp_path / str(number), name=name)
    assert server.paths == [
        "/b%C3%BCcher.tar",
        "/my%20set.tar",
        "/%62%C3%BC.tar?x=%C3%BC&y=1",
        "/%E6%97%A5%E6%9C%AC.tar",
    ]
    (tmp_path / "Bücher 1.tar").write_bytes(CONTENT)
    fetch(f"file://{tmp_path}/Bücher 1.tar", SHA256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_a_hosts_name_is_sent_as_idna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no_network(request, timeout):
        asked.append(request.full_url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(DataError, match="no network"):
        fetch("http://bücher.example:81/ü", SHA256, tmp_path / "x", attempts=1)
    assert asked == ["http://xn--bcher-kva.example:81/%C3%BC"]


@pytest.mark.parametrize("url", ["http://[bad", "http://bü..cher/x", "http://bü" + "c" * 70 + "/x", "http://h/\udcff"])
def test_what_is_no_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match=r"is not an address that can be downloaded \(.+\); correct it"):
        fetch(url, SHA256, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_points_on_to_what_is_no_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/onward is not an address that can be downloaded \(.+\)"):
        get(server, tmp_path / "x", name="onward")
