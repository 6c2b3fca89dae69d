"""The server of the page, from outside: who gets a kernel, whose it is, when it ends, and what a client can do to it."""

import asyncio
import contextlib
import json
import os
import re
import sys
import time
import urllib.request
import uuid

import nbformat
import psutil
import pytest
from conftest import ROOT
from test_browser import free_port
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClosedError, websocket_connect

PROTOCOL = "v1.kernel.websocket.jupyter.org"
LIVES = 2  # seconds that a kernel outlives its page here


def in_loop(test):
    """A test that is a coroutine, with a limit to its time."""

    async def to_the_end(server):
        try:
            await asyncio.wait_for(test(server), 60)
        finally:
            for socket in list(server.sockets):
                await server.close(socket)

    def run(server):
        asyncio.run(to_the_end(server))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@pytest.fixture(scope="module")
def tiny_notebook(tmp_path_factory):
    slider = "import ipywidgets\nipywidgets.IntSlider(value=3, description='runs')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(slider, metadata={"tags": ["app"]})])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path_factory.mktemp("page") / "tiny.ipynb"
    nbformat.write(notebook, path)
    return path


def half_of_the_processors():
    return os.environ.get("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // 2, 1)))


class Server:
    """A server of a tiny page in a process of its own, and what its clients do."""

    def __init__(self, notebook, log):
        port = free_port()
        self.url, self.log, self.sockets = f"http://127.0.0.1:{port}", log, set()
        arguments = [str(notebook), "--port", str(port), "--kernels", "2", "--keep", str(LIVES)]
        with open(log, "w") as file:
            command = [sys.executable, "-m", "refine_lib.widgets", *arguments]
            self.process = psutil.Popen(command, stdout=file, stderr=file, cwd=ROOT)
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/voila/static/nothing"):
                pass
            if "running at" in log.read_text():
                break
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.25)

    def kernels(self):
        return [child for child in self.process.children() if child.status() != psutil.STATUS_ZOMBIE]

    async def until(self, n_kernels, seconds=20):
        end = time.monotonic() + seconds
        while len(self.kernels()) != n_kernels:
            assert time.monotonic() < end, f"{len(self.kernels())} kernels, not {n_kernels}"
            await asyncio.sleep(0.1)

    async def get(self, cookie="", path="/", method="GET", body=None, **headers):
        """Returns an answer, the kernel that its page names, and the cookie that it brings."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | ({"Cookie": cookie} if cookie else {})
        client = AsyncHTTPClient(force_instance=True)
        answer = await client.fetch(self.url + path, method=method, headers=headers, body=body, raise_error=False)
        client.close()
        kernel = re.search(r'"kernelId": "([^"]+)"', answer.body.decode())
        cookies = [line for line in answer.headers.get_list("Set-Cookie") if line.startswith("refine-")]
        return answer, kernel and kernel[1], cookies[0].split(";")[0] if cookies else ""

    async def open(self, kernel, cookie="", protocols=(PROTOCOL,), **headers):
        url = f"{self.url.replace('http', 'ws')}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
        headers |= {"Cookie": cookie} if cookie else {}
        socket = await websocket_connect(HTTPRequest(url, headers=headers), subprotocols=list(protocols) or None)
        self.sockets.add(socket)
        return socket

    async def close(self, socket):
        """Closes a websocket, where the server has not, and reads it to its end."""
        self.sockets.remove(socket)
        socket.close()
        while await socket.read_message() is not None:
            pass

    async def slider(self, socket, **change):
        """Returns the value of the slider as the kernel tells it, after a change."""
        models = await self.models(socket)
        name = next(name for name, model in models.items() if model["model_name"] == "IntSliderModel")
        data = {"method": "update", "state": change, "buffer_paths": []}
        await socket.write_message(message("comm_msg", {"comm_id": name, "data": data}), binary=True)
        return (await self.models(socket))[name]["state"]["value"]

    async def models(self, socket):
        """Returns what the kernel tells about all its models, as a page asks for them when it is loaded."""
        comm = uuid.uuid4().hex
        content = {"comm_id": comm, "target_name": "jupyter.widget.control", "data": {}}
        await socket.write_message(message("comm_open", content, {"version": "1.0.0"}), binary=True)
        await socket.write_message(message("comm_msg", {"comm_id": comm, "data": {"method": "request_states"}}), binary=True)
        while True:
            _, header, _, _, content = read(await socket.read_message())
            if header["msg_type"] == "comm_msg" and content["comm_id"] == comm:
                return content["data"]["states"]


def packed(parts):
    """A message of the protocol, of these parts."""
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join(number.to_bytes(8, "little") for number in (len(offsets), *offsets)) + b"".join(parts)


def message(kind, content, metadata=None, channel="shell"):
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "username": "", "session": "test", "version": "5.3", "date": ""}
    return packed([channel.encode(), *(json.dumps(part).encode() for part in (header, {}, metadata or {}, content))])


def read(data):
    numbers = [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(1, 1 + int.from_bytes(data[:8], "little"))]
    channel, *parts = (data[a:b] for a, b in zip(numbers, numbers[1:], strict=False))
    return [channel, *map(json.loads, parts[:4])]


@pytest.fixture(scope="module")
def started(tiny_notebook, tmp_path_factory):
    server = Server(tiny_notebook, tmp_path_factory.mktemp("server") / "log")
    yield server
    server.process.terminate()
    server.process.wait(30)


@pytest.fixture
def server(started):
    """The server, without kernels. A test may make it say warnings, but no more, but for the death of a kernel."""
    asyncio.run(started.until(0))
    before = len(started.log.read_text())
    yield started
    said = started.log.read_text()[before:]
    assert not re.search(r"Traceback|ERROR(?! . kernel \S+ restarted failed)|CRITICAL|Uncaught", said), said


async def is_refused(opening, code):
    with pytest.raises(HTTPClientError) as error:
        await opening
    return error.value.code == code


@in_loop
async def test_further_visitors_wait(server):
    answers = await asyncio.gather(*(server.get() for _ in range(5)))
    assert sorted(answer.code for answer, *_ in answers) == [200, 200, 503, 503, 503] and len(server.kernels()) == 2
    threads = [kernel.environ().get("OMP_NUM_THREADS") for kernel in server.kernels()]  # the second shares with the first
    assert sorted(threads, key=str) == sorted([os.environ.get("OMP_NUM_THREADS"), half_of_the_processors()], key=str)
    full = next(answer for answer, *_ in answers if answer.code == 503)
    assert int(full.headers["Retry-After"]) == 15 and b'http-equiv="refresh" content="15"' in full.body
    _, kernel, cookie = next(entry for entry in answers if entry[0].code == 200)
    assert (await server.get(cookie))[1] == kernel  # whoever is in, stays in


@in_loop
async def test_a_reload_finds_the_kernel_again_and_nobody_else_does(server):
    answer, kernel, cookie = await server.get()
    wanted = r"refine-\d+-\d=\S{40,}; HttpOnly; Path=/; SameSite=Strict"  # the first number that is free
    assert re.search(wanted, str(answer.headers.get_list("Set-Cookie")))
    socket = await server.open(kernel, cookie)
    assert await server.slider(socket, value=7) == 7
    await server.close(socket)
    await asyncio.sleep(LIVES / 2)
    again, same, _ = await server.get(cookie)
    assert same == kernel and again.body == answer.body
    socket = await server.open(kernel, cookie)
    assert await server.slider(socket) == 7
    name, secret = cookie.split("=")
    for foreign in ("", f"{name}=", f"{name}=x", f"{name}={secret[:-1]}", f"refine-1-1={secret}"):
        assert await is_refused(server.open(kernel, foreign), 404)
        assert (await server.get(foreign, f"/api/kernels/{kernel}"))[0].code == 404
    _, other, others = await server.get(f"{name}=x")
    assert other != kernel and others.split("=")[1] != secret
    assert await is_refused(server.open(kernel, others), 404) and await is_refused(server.open(other, cookie), 404)


@in_loop
async def test_a_kernel_ends_some_time_after_its_page(server):
    _, kernel, cookie = await server.get()
    socket = await server.open(kernel, cookie)
    await asyncio.sleep(2 * LIVES)
    assert await server.slider(socket) == 3  # a page that is only looked at keeps its kernel
    answer, *_ = await server.get(cookie, f"/voila/api/shutdown/{kernel}", method="POST", body="_xsrf=")
    assert answer.code == 204  # a reload says the same as a page that closes
    assert (await server.get(cookie, f"/api/kernels/{kernel}", method="DELETE"))[0].code == 405
    assert len(server.kernels()) == 1
    await server.close(socket)
    await asyncio.sleep(LIVES / 2)
    assert len(server.kernels()) == 1
    await server.until(0, LIVES / 2 + 6)
    assert (await server.get(cookie))[1] != kernel


@in_loop
async def test_a_kernel_that_died_makes_room_and_a_reload_starts_another(server):
    _, kernel, cookie = await server.get()
    socket = await server.open(kernel, cookie)
    server.kernels()[0].kill()
    while read(await socket.read_message())[4].get("execution_state") != "dead":
        pass
    await asyncio.sleep(1.5)
    assert (await server.get(cookie))[1] not in (None, kernel)


@in_loop
async def test_nothing_from_elsewhere_starts_or_reaches_a_kernel(server):
    image = {"Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
    frame = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}
    link = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document", "Sec_Fetch_User": "?1"}
    for site in ("cross-site", "same-site"):
        for how, code in ((image, 403), (frame, 403), (link, 200)):
            answer, kernel, cookie = await server.get(Sec_Fetch_Site=site, **how)
            assert (answer.code, kernel, cookie) == (code, None, "")
    answer, kernel, cookie = await server.get(Referer="http://elsewhere.example/page")  # a browser of old
    assert kernel is None and not cookie and b'http-equiv="refresh" content="0"' in answer.body
    assert (await server.get(Host="elsewhere.example"))[0].code == 403
    assert not server.kernels()

    _, kernel, cookie = await server.get(Sec_Fetch_Site="same-origin", Referer=server.url + "/", **link)
    for origin in (
        "http://elsewhere.example",
        "null",
        server.url[:-1],
        server.url.replace("127.0.0.1", "localhost"),
        "http://[bad",
    ):
        assert await is_refused(server.open(kernel, cookie, Origin=origin), 403)
    assert await is_refused(server.open(str(uuid.uuid4()), cookie), 404)
    assert len(server.kernels()) == 1
    await server.open(kernel, cookie, Origin=server.url)


@in_loop
async def test_only_messages_of_the_protocol_are_parsed(server):
    _, kernel, cookie = await server.get()
    for protocols in ((), ("v2.kernel.websocket.jupyter.org",)):  # the server would speak to them in its own binary format
        assert await is_refused(server.open(kernel, cookie, protocols), 400)
    good = message("comm_info_request", {})
    count = lambda number: number.to_bytes(8, "little")  # noqa: E731
    bad = {
        "a count without end": count(2**63) + good[8:],
        "a count of four thousand million": count(2**32 - 1) + bytes(64),
        "more offsets than bytes": count(20) + good[8:16],
        "many parts": packed([b"shell", *[b"{}"] * 4, *[b""] * 1000]),
        "a large header": packed([b"shell", b" " * 5000, b"{}", b"{}", b"{}"]),
        "offsets backward": good[:16] + count(2**40) + good[24:],
        "nothing": b"",
        "text": json.dumps({"channel": "shell"}),
        "cut": good[:-1],
        "more": good + b"x",
        "no JSON": packed([b"shell", b"{", b"{}", b"{}", b"{}"]),
        "JSON without end": packed([b"shell", b"[" * 4000, b"{}", b"{}", b"{}"]),
        "no header": packed([b"shell", b"{}", b"{}", b"{}", b"{}"]),
        "not UTF-8": packed([b"\xff", b"{}", b"{}", b"{}", b"{}"]),
        "too large": bytes(5 * 2**20),
    }
    before = sum(server.process.cpu_times()[:2])
    for name, data in bad.items():
        socket = await server.open(kernel, cookie)
        with contextlib.suppress(WebSocketClosedError):
            await socket.write_message(data, binary=isinstance(data, bytes))
            for _ in range(5):  # what is on its way when the server closes, it takes for what it is
                await socket.write_message(message("comm_info_request", {}), binary=True)
        server.sockets.remove(socket)
        while await asyncio.wait_for(socket.read_message(), 10) is not None:
            pass
        socket.close()
        assert socket.close_code in ((1009, None) if len(data) > 2**22 else (1003, 1007)), name
    assert sum(server.process.cpu_times()[:2]) - before < 5
    socket = await server.open(kernel, cookie)
    assert await server.slider(socket) == 3  # the kernel is as it was
    await asyncio.gather(*(server.open(kernel, cookie) for _ in range(7)))
    assert await is_refused(server.open(kernel, cookie), 429)


@in_loop
async def test_a_client_that_sends_without_pause_is_slowed_down_and_others_are_served(server):
    _, kernel, cookie = await server.get()
    _, other, others = await server.get()
    socket, quiet = await server.open(kernel, cookie), await server.open(other, others)
    start = time.monotonic()
    for _ in range(600):
        socket.write_message(message("comm_msg", {"comm_id": "none", "data": {}}), binary=True)
    assert await server.slider(quiet, value=5) == 5 and time.monotonic() - start < 2
    await server.slider(socket)
    assert time.monotonic() - start > 0.8


@in_loop
async def test_no_address_but_the_page_answers(server):
    cookie = (await server.get())[2]
    for path in ("/?template=../../x", "/?theme=none"):
        assert (await server.get(cookie, path))[0].code == 200
    for path in (
        "/other.ipynb",
        "/voila/files/tiny.ipynb",
        "/voila/static/../../x",
        "/api/kernels",
        "/%00",
        "/voila/api/themes/x",
    ):
        assert (await server.get(cookie, path))[0].code in (403, 404), path
    assert b"Back to the panel" in (await server.get(path="/other.ipynb"))[0].body
    reader, writer = await asyncio.open_connection("127.0.0.1", server.url.split(":")[2])
    writer.write(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n")
    assert b"400 Bad Request" in await asyncio.wait_for(reader.read(), 5)  # before a byte of the body is read
    writer.close()
    await writer.wait_closed()
