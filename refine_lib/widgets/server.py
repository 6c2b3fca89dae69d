"""The server of the page: Voila, which trusts whoever reaches it, with a limit to what a client can do.

A visitor's cookie names a kernel and proves that it is the visitor's own. With it a reload gets the same page, and without it
no websocket opens. A kernel that nobody watches ends after a while, so nothing depends on what a page says when it closes.
"""

import asyncio
import contextlib
import contextvars
import functools
import hmac
import os
import re
import secrets
import struct
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import PeriodicCallback
from tornado.iostream import StreamClosedError
from tornado.web import ErrorHandler, HTTPError, RequestHandler, authenticated
from tornado.websocket import WebSocketClosedError
from traitlets import Float, Integer
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

PROTOCOL = "v1.kernel.websocket.jupyter.org"  # of the binary messages: counts and offsets of 8 bytes, little-endian
TEMPLATE = Path(__file__).parent / "page" / "voila" / "templates" / "refine"
LARGEST = 4 * 2**20  # bytes of a message: the painter sends a photo in parts of 1 MiB
BYTES, MESSAGES = 32 * 2**20, 300  # per second: what comes faster is read later
WATCHERS = 8  # connections to one kernel
# Of HTTP: without them a client may send 100 MB to any address, and take an hour for a line.
LIMITS = {"max_body_size": 2**16, "max_buffer_size": 2 * LARGEST, "idle_connection_timeout": 20, "body_timeout": 20}

STARTING = contextvars.ContextVar[str]("STARTING")  # the identity of the kernel that a task starts


@dataclass(eq=False)
class Visit:
    """A page, its kernel, and the cookie of its visitor."""

    cookie: str
    secret: str = field(default_factory=secrets.token_urlsafe)
    kernel_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    html: list[str] = field(default_factory=list)
    rendering: asyncio.Task = field(init=False)
    watchers: int = 0
    left: float = field(default_factory=time.monotonic)

    def is_of(self, handler: RequestHandler) -> bool:
        """Returns whether a request brings the cookie."""
        return hmac.compare_digest(self.secret.encode(), handler.get_cookie(self.cookie, "").encode())

    @contextlib.contextmanager
    def watched(self):
        """While this lasts, the kernel is not left alone."""
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1
            self.left = time.monotonic()


def own_visit(handler: RequestHandler, kernel_id: str) -> Visit:
    """Returns the visit of a kernel. To anyone but its visitor the kernel does not exist."""
    visit = handler.settings["voila"].visits.get(kernel_id)
    if visit is None or not visit.is_of(handler):
        raise HTTPError(404)
    return visit


def is_from_elsewhere(request) -> bool:
    """Returns whether a page of another server asks, as far as the browser tells."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    referer = request.headers.get("Referer")
    return bool(referer) and referer.partition("://")[2].partition("/")[0] != request.host


def is_message(data: bytes | str) -> bool:
    """Returns whether a message has the form of ``PROTOCOL``: channel, header, parent, metadata, content, buffers."""
    if isinstance(data, str) or not 6 <= (count := int.from_bytes(data[:8], "little")) <= 32 or len(data) < 8 * (count + 1):
        return False
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    is_in_order = offsets[0] == 8 * (count + 1) and list(offsets) == sorted(offsets) and offsets[-1] == len(data)
    return is_in_order and offsets[2] - offsets[0] < 4096  # channel and header, which may get into a log


class PageHandler(TornadoVoilaHandler):
    """The page: a new one with a kernel of its own, or the visitor's own again."""

    @authenticated
    async def get(self, path=None):
        if path:
            raise HTTPError(404)
        if is_from_elsewhere(self.request):
            # A link is let in, though not at once: the cookie does not come along from there, so an open page would not be
            # found. A picture, a frame or a script of another page starts nothing.
            if self.request.headers.get("Sec-Fetch-Dest", "document") != "document":
                raise HTTPError(403)
            return self.tell(200, 0, "The panel opens", "It opens by itself in a moment.")
        server = self.settings["voila"]
        visit = next((visit for visit in reversed(server.visits.values()) if visit.is_of(self)), None)
        if visit is None:
            taken = {visit.cookie for visit in server.visits.values()}
            free = [name for number in range(server.kernels) if (name := f"refine-{server.port}-{number}") not in taken]
            if not free:
                text = "This page tries again every 15 seconds. It opens the panel as soon as a place is free."
                return self.tell(503, 15, f"All {server.kernels} panels are taken", text)
            visit = Visit(free[0])
            server.visits[visit.kernel_id] = visit
            visit.rendering = asyncio.create_task(self.render(visit))
        self.set_cookie(visit.cookie, visit.secret, path=self.base_url, httponly=True, samesite="Strict")
        self.set_header("Cache-Control", "no-store")
        with visit.watched(), contextlib.suppress(StreamClosedError):
            await self.follow(visit)

    async def render(self, visit: Visit) -> None:
        """Starts the kernel, runs the cells and keeps the page. It goes on when the visitor has left."""
        STARTING.set(visit.kernel_id)
        async for html in self.get_generator():
            visit.html.append(html)

    async def follow(self, visit: Visit) -> None:
        """Sends the page as far as it is there, until it is complete."""
        sent, is_complete = 0, False
        while not is_complete:
            await asyncio.wait([visit.rendering], timeout=0.05)
            is_complete = visit.rendering.done()
            if is_complete and not visit.rendering.cancelled():
                visit.rendering.result()  # or its error
            if len(visit.html) > sent:
                self.write("".join(visit.html[sent:]))
                sent = len(visit.html)
                await self.flush()

    def tell(self, status: int, seconds: int, title: str, text: str) -> None:
        """Answers with a notice that loads the page again by itself."""
        self.set_status(status)
        self.set_header("Retry-After", str(seconds))
        self.set_header("Cache-Control", "no-store")
        self.finish(self.render_template("error.html", status_message=title, message=text, seconds=seconds))


class Connection(ZMQChannelsWebsocketConnection):
    """Speaks ``PROTOCOL`` to its end. Jupyter's own takes another format for granted as soon as the websocket is closed."""

    @property
    def subprotocol(self):
        return PROTOCOL


class CheckedOrigin:
    """An origin that is no address is foreign, and no error."""

    def check_origin(self, *args):
        try:
            return super().check_origin(*args)  # pyright: ignore[reportAttributeAccessIssue]
        except ValueError:
            return False


class SocketHandler(CheckedOrigin, VoilaKernelWebsocketHandler):
    """The websocket of a page to its kernel. It takes messages of ``PROTOCOL`` alone, so Voila and Jupyter parse no other."""

    connection = None
    paid = 0.0  # until when the messages that came so far have used up what a client may send

    async def get(self, kernel_id):
        visit = own_visit(self, kernel_id)
        if PROTOCOL not in re.split(r"\s*,\s*", self.request.headers.get("Sec-WebSocket-Protocol", "").strip()):
            raise HTTPError(400, f"the websocket must offer the protocol {PROTOCOL}")
        if visit.watchers >= WATCHERS:
            raise HTTPError(429)
        if not self.check_origin():
            raise HTTPError(403)
        with visit.watched():
            await super().get(kernel_id)  # until the websocket is closed

    def select_subprotocol(self, subprotocols):
        return PROTOCOL

    async def open(self, kernel_id):
        if self.connection is not None:  # the client may have left already
            await super().open(kernel_id)

    def on_close(self):
        if self.connection is not None:
            super().on_close()

    async def on_message(self, ws_message):
        if not is_message(ws_message):
            return self.close(1003, f"not a message of {PROTOCOL}")
        now = time.monotonic()
        self.paid = max(self.paid, now - 1) + 1 / MESSAGES + len(ws_message) / BYTES
        await asyncio.sleep(self.paid - now)  # the next message is not read before
        try:
            if self.connection is not None:
                super().on_message(ws_message)
        except Exception as error:  # whatever the parts of a message may lead Jupyter to
            self.log.warning("a message could not be read: %s", type(error).__name__)
            self.close(1007, "a message could not be read")

    def write_message(self, message, binary=False):
        with contextlib.suppress(WebSocketClosedError):  # the client has left, and the kernel goes on
            sent = super().write_message(message, binary)
            if sent is not None:
                sent.add_done_callback(lambda sent: sent.cancelled() or sent.exception())  # nobody else asks for it
            return sent

    def send_ping(self):
        with contextlib.suppress(WebSocketClosedError):
            super().send_ping()


class OwnKernelHandler(CheckedOrigin, KernelHandler):
    """What a page asks about its kernel."""

    SUPPORTED_METHODS = ("GET",)

    async def get(self, kernel_id):
        own_visit(self, kernel_id)
        await ensure_async(super().get(kernel_id))


class Farewell(RequestHandler):
    """What a page says when it closes, and when it is loaded again: so it means nothing."""

    def post(self, _kernel_id):
        self.set_status(204)


class Kernels(AsyncMappingKernelManager):
    """Kernels whose identities are known before they start."""

    def new_kernel_id(self, **kwargs):
        return STARTING.get()

    async def start_kernel(self, **kwargs):
        """Starts a kernel that shares the processors with those that somebody watches.

        Where processes have more threads together than there are processors, threads that wait for one another take many
        times as long.
        """
        page, env = self.parent, kwargs.pop("env", None) or dict(os.environ)
        watched = sum(visit.watchers > 0 for visit in page.visits.values()) if isinstance(page, Page) else 1
        if watched > 1 and "OMP_NUM_THREADS" not in env:
            env["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // watched, 1))
        return await super().start_kernel(env=env, **kwargs)


class Page(Voila):
    """Voila with the handlers above. It ends each kernel that nobody watches."""

    kernels = Integer(4, config=True, help="at most that many kernels at a time")
    keep = Float(120.0, config=True, help="seconds that a kernel outlives its page")

    def init_handlers(self):
        ours = {
            KernelHandler: OwnKernelHandler,
            VoilaKernelWebsocketHandler: SocketHandler,
            VoilaShutdownKernelHandler: Farewell,
            TornadoVoilaHandler: PageHandler,
        }
        self.visits: dict[str, Visit] = {}
        self.sweeper = PeriodicCallback(self.sweep, 1000)
        self.sweeper.start()
        # Jupyter's own notices ask for files that Voila does not serve, and would end in a traceback.
        self.app.settings["jinja2_env"].loader.searchpath.insert(0, str(TEMPLATE))
        self.app.listen = functools.partial(self.app.listen, **LIMITS)  # Voila has no setting for them
        handlers: Any = super().init_handlers()
        handlers = [(address, ours.get(handler, handler), *rest) for address, handler, *rest in handlers]
        return [
            (".*%00.*", ErrorHandler, {"status_code": 404}),
            *handlers,
        ]  # no file's name may have that, and no handler looks

    async def sweep(self) -> None:
        """Ends the kernels that were left, and forgets those that ended by themselves."""
        for visit in list(self.visits.values()):
            is_there = visit.kernel_id in self.kernel_manager
            is_left = not visit.watchers and time.monotonic() - visit.left > self.keep
            if is_left or not is_there and (visit.html or visit.rendering.done()):
                visit.secret = secrets.token_urlsafe()  # nobody comes back while it ends
                visit.rendering.cancel()
                if is_there:
                    await self.kernel_manager.shutdown_kernel(visit.kernel_id)
                del self.visits[visit.kernel_id]
