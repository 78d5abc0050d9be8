"""Requests over HTTP, handed to a replica's server as they come."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kindaware._errors import message

if TYPE_CHECKING:
    import aiohttp
    from starlette.requests import Request
    from starlette.responses import Response

_MODEL = r"/v2/models/[^/]+(?:/versions/\d+)?"
_FORWARDED = {
    "GET": re.compile(
        rf"/v2/?|/v2/health/(?:live|ready)|/v2/models/stats|{_MODEL}(?:/(?:config|stats|ready))?"
    ),
    "POST": re.compile(rf"/v2/repository/index|{_MODEL}/(?:infer|generate|generate_stream)"),
}
"""What each server can answer for all. Of the rest, such as loading a model, registering shared memory or the
settings of the log, only one of the servers would learn."""
_OF_CONNECTION = frozenset(
    ("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)


class Forwarder:
    """Sends requests on to one server.

    Args:
        address: host and port of its HTTP.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._session: aiohttp.ClientSession | None = None

    async def forward(self, request: Request) -> Response:
        """Return the server's answer; an event stream is passed on as it comes.

        A request that no server can answer for all is refused with 403, and one that the server can't be
        asked with 503, both with Triton's `{"error": TEXT}`.
        """
        import aiohttp
        import yarl
        from starlette.responses import Response, StreamingResponse

        path = _path_of(request)
        pattern = _FORWARDED.get(request.method)
        if pattern is None or not pattern.fullmatch(path):
            return _refusal(request.method, path)
        query = f"?{request.url.query}" if request.url.query else ""
        url = yarl.URL(f"http://{self._address}{quote(path)}{query}", encoded=True)
        body = await request.body()
        try:
            answer = await self._open().request(
                request.method, url, data=body, headers=_without_connection(request.headers.items())
            )
        except aiohttp.ClientError as error:
            return _error(503, _unreachable(self._address, error))
        headers = dict(_without_connection(answer.headers.items()))
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            return StreamingResponse(_chunks(answer), answer.status, headers)
        try:
            async with answer:
                content = await answer.read()
        except aiohttp.ClientError as error:
            return _error(503, _unreachable(self._address, error))
        return Response(content, answer.status, headers)

    async def text(self, address: str, path: str) -> str:
        """Return what a server says at a path.

        Raises:
            aiohttp.ClientError: it says nothing.
        """
        async with self._open().get(f"http://{address}{path}", raise_for_status=True) as answer:
            return await answer.text()

    async def json(self, path: str) -> Any:
        """Return what this server says at a path, as JSON parses."""
        return json.loads(await self.text(self._address, path))

    def _open(self) -> aiohttp.ClientSession:
        """Return the connections, which belong to the running event loop."""
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0),  # Serve limits the requests
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


def _path_of(request: Request) -> str:
    """Return the path below the application's route prefix."""
    path, prefix = str(request.scope["path"]), str(request.scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(prefix) if prefix else path


def _without_connection(headers: Any) -> list[tuple[str, str]]:
    """Return headers without those that concern one connection alone."""
    return [(name, value) for name, value in headers if name.lower() not in _OF_CONNECTION]


async def _chunks(answer: aiohttp.ClientResponse) -> Any:
    """Yield the parts of an answer as they come; a caller that leaves closes the connection."""
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    finally:
        answer.close()


def _refusal(method: str, path: str) -> Response:
    text = message(
        f"{method} {path}",
        expected="a request that every replica answers alike, such as POST /v2/models/NAME/infer",
        got="another",
        remedy="load, unload and set up models in the repository, and deploy it again",
    )
    return _error(403, text)


def _unreachable(address: str, error: Exception) -> str:
    return message(
        f"tritonserver at {address}",
        expected="an answer",
        got=f"{type(error).__name__}: {error}",
        remedy="send the request again: Ray replaces this replica",
    )


def _error(status: int, text: str) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": text}, status)
