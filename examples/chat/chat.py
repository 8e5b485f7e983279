"""A chat: who is there, what is said, and nothing lost when a connection is.

Run it:     python examples/chat/chat.py                  (or: hypercorn -k trio examples/chat/chat.py:app)
Look:       http://127.0.0.1:8000/                        (and in a private window, which is somebody else)

The page listens by WebSocket, as JSON, and says things by POST. A browser is known by a cookie, of which others learn
a digest. The names are what people say that they are.
"""

import hashlib
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
from quart import Response, abort, request, websocket
from quart_trio import QuartTrio

from triocast import Settings, Triocast
from triocast.link import LINK_KEY
from triocast.web import answer_errors_with_json, bound_bodies

# What is kept is for those who come later, or come back; a page that is loaded again within presence_grace has not
# left. Who falls behind by more than max_lag is told what is left out, instead of getting it all: so few only because
# a chat of two or three people should have a chance to show it.
SETTINGS = Settings(max_message=16 * 1024, max_lag=12, history_size=200, history_ttl=86_400, presence_grace=5)
GROUP = "chat"

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HERE = Path(__file__).parent
PAGE = (HERE / "chat.html").read_text()
COOKIE = "chat"
POLICY = "default-src 'self'; img-src data:; frame-ancestors 'none'"  # no other page shows this one as a part of it
HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": POLICY}


class Paced:
    """ASGI middleware: gives each client that asks for it with `slow=1` a bad line, which takes one frame a second.

    A browser can't be slow by itself: it reads all that comes, whatever its page does. So the server is, for this one.
    Without the link's handle Triocast writes to it by ASGI's `send`, which can be held up here; everything else, and
    what becomes of a client that does not keep up, is as it is for all.
    """

    def __init__(self, asgi: App) -> None:
        self._asgi = asgi

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] == "websocket" and b"slow=1" in scope["query_string"].split(b"&"):
            state = scope.get("state") or {}
            scope = {**scope, "state": {key: value for key, value in state.items() if key != LINK_KEY}}
            send = slowed(send)
        await self._asgi(scope, receive, send)


def slowed(send: Send) -> Send:
    async def send_slowly(event: dict[str, Any]) -> None:
        if event["type"] == "websocket.send":
            await trio.sleep(1)
        await send(event)

    return send_slowly


app = QuartTrio(__name__)
push = Triocast(app, SETTINGS)
app.asgi_app = Paced(app.asgi_app)
bound_bodies(app, SETTINGS)
answer_errors_with_json(app)


class Said(msgspec.Struct):
    """What the page posts. The `id` is new for each message, so that the page may ask again when it gets no answer."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16,64}$")]
    name: Annotated[str, msgspec.Meta(max_length=40)]
    text: Annotated[str, msgspec.Meta(max_length=2000)]


def user(asker: Any) -> str:
    """Return who asks: a digest of the cookie that only this browser has."""
    secret = asker.cookies.get(COOKIE) or abort(403, "open the page first: it gives you a cookie")
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def words(text: str, what: str) -> str:
    """Return `text` in one line without spaces around; there must be some."""
    return " ".join(text.split()) or abort(400, f"{what} must not be empty")


@app.get("/")
async def page() -> Response:
    secret = request.cookies.get(COOKIE) or secrets.token_urlsafe(16)
    me = hashlib.sha256(secret.encode()).hexdigest()[:16]
    response = Response(PAGE.replace("USER", me), headers=HEADERS, content_type="text/html; charset=utf-8")
    # Lax, not Strict: who came by a link on another site would send none, be given a new one, and be somebody else.
    response.set_cookie(COOKIE, secret, max_age=365 * 86_400, httponly=True, samesite="Lax")
    return response


@app.get("/chat.css")
async def style() -> Response:
    return Response((HERE / "chat.css").read_text(), headers=HEADERS, content_type="text/css; charset=utf-8")


@app.get("/chat.js")
async def script() -> Response:
    return Response((HERE / "chat.js").read_text(), headers=HEADERS, content_type="text/javascript; charset=utf-8")


@app.websocket("/ws")
async def listen() -> None:
    since = websocket.args.get("since")  # where the page is, if it has been here before; else it begins with the newest
    beginning: dict[str, Any] = {"since": {GROUP: since}} if since else {"last": 50}
    name = words(websocket.args.get("name", ""), "a name")[:40]
    async with push.connect(
        GROUP, format="json", **beginning, user=user(websocket), info={"name": name}, presence=True
    ) as connection:
        async for _ in connection:
            pass  # who says something posts it


@app.get("/members")
async def members() -> dict[str, object]:
    page = await push.group(GROUP).members(after=request.args.get("after"), limit=1000)
    people = [{"client": each.client, "user": each.user, "info": each.info} for each in page.members]
    return {"members": people, "next": page.next}


@app.post("/say")
async def say() -> dict[str, object]:
    who = user(request)
    try:
        said = msgspec.json.decode(await request.get_data(), type=Said)
    except msgspec.DecodeError as error:
        abort(400, str(error))
    words(said.text, "a message")
    message = {"id": said.id, "user": who, "name": words(said.name, "a name"), "text": said.text}
    receipt = await push.group(GROUP).send(message, idempotency_key=f"{who}:{said.id}")
    return {"epoch": receipt.epoch, "offset": receipt.offset}


@app.post("/robot")
async def robot() -> tuple[str, int]:
    """Say more than a slow line can take."""
    user(request)
    for number in range(1, 31):
        message = {"id": secrets.token_hex(16), "user": "0" * 16, "name": "Robot", "text": f"{number} of 30"}
        await push.group(GROUP).send(message)
    return "", 204


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await app.run_task(port=8000, shutdown_trigger=signals.__anext__)


if __name__ == "__main__":
    trio.run(main)
