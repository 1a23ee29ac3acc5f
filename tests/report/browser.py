"""A page in headless Chromium, by the DevTools protocol over two pipes: what it says, asks for and shows."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import oracles


class Browser:
    """One tab. `said` are messages of its console and exceptions, `asked` the addresses that it asked for."""

    def __init__(self, to: BinaryIO, back: BinaryIO) -> None:
        self._to, self._back = to, back
        self._number, self._session, self._rest = 0, "", b""
        self.said: list[str] = []
        self.asked: list[str] = []
        self._happened: list[str] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> Any:
        """The answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._back.fileno(), 1 << 20)
            assert more, "the browser has gone"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        method, told = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded":
            self.said.append(told["entry"]["text"])
        self._happened.append(method or "")
        return message

    def open(self, path: Path, *, dark: bool = False) -> None:
        """Open a file, and wait until it has been loaded and its plots are drawn."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.do("Emulation.setEmulatedMedia", features=scheme)
        self._happened.clear()
        self.do("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self._happened:
            self._next()
        ready = "() => document.body.dataset.ready === 'yes' ? done(true) : setTimeout(look, 20)"
        assert self.value(f"new Promise(done => {{ const look = {ready}; look() }})"), self.said

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives; promises are waited for."""
        answer = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self) -> bytes:
        """The whole page as PNG."""
        data: str = self.do("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return base64.b64decode(data)


@contextmanager
def browser(folder: Path, *, width: int = 1200, height: int = 2600) -> Iterator[Browser]:
    """Chromium with an empty profile in `folder`."""
    program = oracles.oracle("chromium")
    inward, outward = os.pipe(), os.pipe()
    words = [
        program,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-pipe",
        "--no-first-run",
    ]
    words += [f"--user-data-dir={folder}", f"--window-size={width},{height}", "--disable-dev-shm-usage"]

    def become_3_and_4() -> None:  # where Chromium reads commands and writes answers
        reading, writing = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (inward[0], outward[1]))
        os.dup2(reading, 3)
        os.dup2(writing, 4)

    process = subprocess.Popen(
        words,
        pass_fds=(3, 4),
        preexec_fn=become_3_and_4,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )
    os.close(inward[0])
    os.close(outward[1])
    try:
        with os.fdopen(inward[1], "wb") as to, os.fdopen(outward[0], "rb") as back:
            yield Browser(to, back)
    finally:
        process.terminate()
        process.wait(timeout=30)
