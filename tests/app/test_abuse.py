"""The page under load and abuse, over HTTP: answers or one line, and nothing beside its folder."""

import http.client
import importlib.util
import json
import re
import socket
import threading
import time
import urllib.parse
import zipfile
from io import BytesIO

import numpy as np
import pytest
from page_pictures import load, picture, png
from page_server import served

# of gradio: what it uses is newer than its notes, and it leaves its event loops to the collector
IGNORED = ("DeprecationWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
pytestmark = [
    pytest.mark.slow,
    *(pytest.mark.filterwarnings(f"ignore::{name}") for name in IGNORED),
]
if importlib.util.find_spec("gradio") is None:
    pytest.skip("gradio, the extra `app`, is not installed", allow_module_level=True)


class Client:
    """A page without a browser: it sends what a browser would, or something else."""

    def __init__(self, address, key):
        self.host, self.key = address.split("/")[2], key
        config = json.loads(self.ask("GET", "/config")[1])
        targets = {
            target[1]: one["id"] for one in config["dependencies"] for target in one["targets"]
        }
        self.events = targets

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=120)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def event(self, name, *data):
        """Returns status and answer of an event, or all that its stream says until it ends."""
        number = self.events.get(name, name)
        content = {"data": data, "event_data": {}, "fn_index": number, "trigger_id": 0}
        body = json.dumps({**content, "session_hash": self.key}).encode()
        status, answer = self.ask(
            "POST", "/gradio_api/queue/join", body, content_type="application/json"
        )
        if status != 200:
            return status, answer.decode()
        connection = http.client.HTTPConnection(self.host, timeout=300)
        connection.request("GET", f"/gradio_api/queue/data?session_hash={self.key}")
        stream, said = connection.getresponse(), []
        while line := stream.readline():
            said.append(line.decode())
            if '"process_completed"' in said[-1] or '"close_stream"' in said[-1]:
                break
        connection.close()
        return status, "".join(said)

    def token(self):
        said = self.event("load")[1]
        match = re.search(r'data-token=\\"([\w-]+)', said)
        return match[1] if match else said

    def send(self, token, name, content, **headers):
        return self.ask(
            "POST", f"/send/{token}?name={urllib.parse.quote(name)}", content, **headers
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("abuse")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # and what else is set is restored
        with served(load, folder / "page", most_of_file=10**6) as (address, handlers):
            yield address, handlers, folder


@pytest.fixture
def page(server):
    """Returns address, handlers and folder of a server without sessions and files."""
    yield server
    server[1].sessions.close_all()


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def wait_until(holds):
    for _ in range(100):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError


def at_once(count, function):
    """Returns the results of a function of 0, 1, ..., called by as many threads at once."""
    found = [None] * count

    def call(number):
        try:
            found[number] = function(number)
        except Exception as error:
            found[number] = repr(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return found


def test_fifty_pictures_at_once_all_come_back(page):
    address, handlers, folder = page
    client = Client(address, "one")
    token = client.token()
    content = [png(picture(number % 10)) for number in range(50)]
    sent = at_once(50, lambda n: client.send(token, f"{n}.png", content[n])[0])
    assert sent == [200] * 50
    said = client.event("upload", "balanced")[1]
    session = handlers.sessions.find("one")
    assert len(session.entries) == 50 and session.problems == []
    assert said.count("data-remove") >= 50
    status, answer = client.ask("GET", f"/files/{token}/all")
    assert status == 200 and len(zipfile.ZipFile(BytesIO(answer)).namelist()) == 151
    wait_until(lambda: len(files(folder)) == 50)  # predictions, and nothing else


def test_fifty_pages_at_once_get_an_answer_or_a_line(page):
    address, handlers, _ = page

    def visit(number):
        client = Client(address, f"page-{number}")
        token = client.token()
        if "pages are open" in token:
            return "refused"
        assert client.send(token, "a.png", png(picture()))[0] == 200
        status, said = client.event("upload", "balanced")
        if status == 503:
            return "the queue is full" if "full" in said else said
        return "done" if "data-remove" in said else said

    found = at_once(50, visit)
    assert found.count("done") == 32 and found.count("refused") == 18
    assert len(handlers.sessions) == 32


def test_no_event_and_no_address_reads_a_file_or_asks_another_host(page):
    address, handlers, folder = page
    secret = folder / "secret.png"
    secret.write_bytes(png(np.full((64, 64, 3), 77, np.uint8)))
    client = Client(address, "one")
    token = client.token()
    paths = [f"/gradio_api/file={secret}", f"/file={secret}", f"/files/{token}/1/../../secret.png"]
    for path in paths:
        status, answer = client.ask("GET", path)
        assert status == 404 and b"PNG" not in answer
    kind = {"_type": "gradio.FileData"}
    for data in ({"path": str(secret), "meta": kind}, {"url": "http://127.0.0.1:9/", "meta": kind}):
        assert client.event("upload", data)[0] == 400
        assert client.event("input", data)[0] == 400
    for name in ("../../a.png", str(secret), "..\\x.png", "\0"):
        assert client.send(token, name, png(picture()))[0] == 200
    client.event("upload", "balanced")
    names = [entry.name for entry in handlers.sessions.find("one").entries.values()]
    assert names == ["a.png", "secret.png", "x.png", "\\x00"]
    outside = {secret, *files(folder / "page")}
    assert set(files(folder)) == outside


def test_what_is_too_large_or_half_is_a_line_and_leaves_nothing(page):
    address, handlers, folder = page
    client = Client(address, "one")
    token = client.token()
    status, answer = client.send(token, "a.png", bytes(1_500_000))
    assert (status, answer) == (400, b"2 MB are more than 1 MB, the most (--max_megabytes)")
    assert client.send("nobody", "a.png", b"x")[0] == 400
    host, port = client.host.split(":")
    with socket.create_connection((host, int(port))) as half:
        head = f"POST /send/{token}?name=a HTTP/1.1\r\nHost: {client.host}\r\n"
        half.sendall(f"{head}Content-Length: 900000\r\n\r\n".encode() + bytes(1000))
        time.sleep(0.5)
    wait_until(lambda: not files(folder / "page"))
    assert not handlers.uploads._sent


def test_odd_events_do_no_harm(page):
    address, handlers, _ = page
    client = Client(address, "one")
    token = client.token()
    client.send(token, "a.png", png(picture()))
    client.event("upload", "balanced")
    for name in [*client.events, 10**6, -1, "x", None]:
        for data in ((), ("<script>",), (None,), (10**400,), ([[]],), ({"a": "b"},)):
            if name not in ("unload", "clear"):
                client.event(name, *data)
    session = handlers.sessions.find("one")
    assert all("<script>" not in line for line in session.problems)
    client.send(token, "b.png", png(picture()))
    assert "b.png" in client.event("upload", "balanced")[1]
