"""`triocast listen` as a process, and a small WebSocket server for it."""

import base64
import json
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio
import trio_websocket

PATIENCE = 30


class Process:
    """The command, running; its two outputs read line by line."""

    def __init__(self, process):
        self.process = process
        self._rest = {"stdout": b"", "stderr": b""}

    async def line(self, name="stdout"):
        stream = getattr(self.process, name)
        while b"\n" not in self._rest[name]:
            data = await stream.receive_some()
            if not data:
                break
            self._rest[name] += data
        line, _, self._rest[name] = self._rest[name].partition(b"\n")
        return line.decode()

    async def end(self):
        """Wait for the end; return the exit code and what was left to read on standard error."""
        code = await self.process.wait()
        rest = self._rest["stderr"]
        async for data in self.process.stderr:
            rest += data
        assert b"Traceback" not in rest
        return code, rest.decode()


@asynccontextmanager
async def listening(handler, *arguments):
    """Serve `handler` and run the command against it."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 0, None, disconnect_timeout=1)
        server = await nursery.start(serve)
        async with listening_at(server.port, *arguments) as process:
            yield process
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def listening_at(port, *arguments):
    """Run the command against what there is at `port`."""
    command = [sys.executable, "-m", "triocast", "listen", *arguments, "--url", f"http://127.0.0.1:{port}"]
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            yield Process(process)
        finally:
            if process.poll() is None:
                process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


def frames_of(messages):
    """Return the frames of a server for messages (str, bytes, or dicts as they are) of the group chat."""
    for offset, message in enumerate(messages, 1):
        match message:
            case str():
                yield {"group": "chat", "offset": offset, "data": message}
            case bytes():
                yield {"group": "chat", "offset": offset, "b64data": base64.b64encode(message).decode()}
            case dict():
                yield message


def sending(*messages, close=None):
    """Return a handler that sends `messages`, then closes, or waits for the other side to leave."""

    async def handle(request):
        websocket = await request.accept()
        for frame in frames_of(messages):
            await websocket.send_message(json.dumps(frame))
        if close is not None:
            await websocket.aclose(*close)
        with suppress(trio_websocket.ConnectionClosed):
            await websocket.get_message()

    return handle


BEGIN = {"group": "chat", "joined": {"epoch": "e", "offset": 0}}
