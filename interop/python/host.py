"""An MCP host on the official Python SDK: plays a script against one server and prints one JSON line per step.

The server is a command after `--` or a Streamable HTTP endpoint (--url). `--mode legacy` opens a session of the 2025 era; `auto` asks `server/discover`
first, as the library does by itself, and leaves out what only one era has.
"""

import argparse
import json
import logging
import os
import re
import sys
import time
from typing import Any

import anyio
import mcp_types as types
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from pydantic import TypeAdapter

# What 2026-07-28 adds to a result whatever the server's answer is; a server of the other era has none of it.
ADDED = {"resultType", "ttlMs", "cacheScope", "_meta"}
RAW: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
PATIENCE = 15


class Host:
    """What the library hands over while a script is played."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.asked: list[Any] = []
        self.told: list[Any] = []
        self.faults: list[str] = []

    async def sample(self, _context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        self.asked.append(plain("sampling/createMessage", params))
        text = types.TextContent(type="text", text="sampled 4711")
        return types.CreateMessageResult(role="assistant", content=text, model="stub", stop_reason="endTurn")

    async def elicit(self, _context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(plain("elicitation/create", params))
        return types.ElicitResult(action="accept", content={"name": "Ada", "check": True, "integer": 7})

    async def roots(self, _context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri=f"file://{self.root}", name="interop")])

    async def hear(self, message: Any) -> None:
        if isinstance(message, Exception):
            self.faults.append(repr(message))
        elif message.method != "notifications/progress":
            self.told.append(plain(message.method, message.params))


def plain(method: str, params: Any) -> dict[str, Any]:
    """A message without its `_meta`, which may differ from call to call."""
    told = {} if params is None else params.model_dump(by_alias=True, mode="json", exclude_none=True)
    told.pop("_meta", None)
    return {"method": method, "params": told}


def number(value: float | None) -> float | None:
    return int(value) if value is not None and value.is_integer() else value


async def wait(what: str, seconds: float, happened: Any) -> None:
    with anyio.move_on_after(seconds) as scope:
        while not happened():
            await anyio.sleep(0.02)
    if scope.cancelled_caught:
        raise AssertionError(f"not within {seconds} s: {what}")


async def play(client: Client, host: Host, step: dict[str, Any]) -> dict[str, Any]:
    """Sends one request and collects everything that belongs to it."""
    host.asked, host.told = [], []
    progress: list[Any] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        # The library makes floats of all numbers.
        note = {"progress": number(done), "total": number(total), "message": message}
        progress.append({name: value for name, value in note.items() if value is not None})

    request = types.Request[Any, str](method=step["method"], params=step.get("params", {}))
    wanted = on_progress if step.get("progress") or step.get("cancel") else None
    seen: dict[str, Any] = {}

    async def send() -> None:
        try:
            result = await client.session.send_request(request, RAW, PATIENCE, progress_callback=wanted)
            added = ADDED if client.mode == "auto" else {}
            seen["result"] = {name: value for name, value in result.items() if name not in added}
        except MCPError as error:
            data = {} if error.error.data is None else {"data": error.error.data}
            seen["error"] = {"code": error.error.code, "message": error.error.message, **data}

    if step.get("cancel"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await wait("first progress", 8, lambda: progress)
            tasks.cancel_scope.cancel()
        return {"error": "cancelled"} if not seen else seen
    await send()
    if step.get("hear"):
        await wait(step["hear"], 12, lambda: any(told["method"] == step["hear"] for told in host.told))
        seen["heard"] = step["hear"]
    else:
        # What belongs to no request may come on another connection, later than the answer.
        await anyio.sleep(0.05)
        if host.told and not step.get("quiet"):
            seen["told"] = host.told
    if step.get("progress"):
        seen["progress"] = progress
    if host.asked:
        seen["asked"] = host.asked
    text = json.dumps(seen, ensure_ascii=False)
    for mask in step.get("masks", []):
        text = re.sub(mask, "*", text)
    return json.loads(text)


def say(step: str, ok: bool, detail: Any, started: float) -> None:
    print(json.dumps({"step": step, "ok": ok, "detail": detail, "ms": round((time.monotonic() - started) * 1000)}), flush=True)


async def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--script", required=True)
    options.add_argument("--root", default="/interop")
    options.add_argument("--url")
    options.add_argument("--mode", default="auto")
    options.add_argument("command", nargs="*")
    chosen = options.parse_args()
    with open(chosen.script, encoding="utf-8") as file:
        script = json.loads(file.read().replace("$ROOT", chosen.root))
    host = Host(chosen.root)
    errors = open(os.devnull, "w", encoding="utf-8")
    if chosen.url:
        server: Any = chosen.url
    else:
        command, *args = chosen.command
        server = stdio_client(StdioServerParameters(command=command, args=args, env=dict(os.environ)), errlog=errors)
    client = Client(
        server,
        mode=chosen.mode,
        cache=None,
        read_timeout_seconds=PATIENCE,
        client_info=types.Implementation(name="interop-host", version="1.0.0"),
        sampling_callback=host.sample,
        elicitation_callback=host.elicit,
        list_roots_callback=host.roots,
        message_handler=host.hear,
        log_level="debug",
    )
    failed: list[str] = []
    ran = 0
    started = time.monotonic()
    async with client:
        info = client.server_info
        welcome = {"server": info.model_dump(by_alias=True, mode="json", exclude_none=True) if info else None}
        if chosen.mode == "legacy":
            capabilities = client.server_capabilities.model_dump(by_alias=True, mode="json", exclude_none=True)
            welcome |= {"version": client.protocol_version, "capabilities": capabilities}
        say("initialize", True, welcome, started)
        # Servers ask for roots and register some tools only after they heard `notifications/initialized`.
        await anyio.sleep(1)
        for step in script:
            if chosen.mode == "auto" and step.get("legacy"):
                continue
            started = time.monotonic()
            ran += 1
            try:
                detail: Any = await play(client, host, step)
                text = json.dumps(detail, ensure_ascii=False, separators=(",", ":"))
                missing = [part for part in step.get("expect", []) if part not in text]
                ok = not missing
                detail = detail if ok else f"{missing} is not in {text}"
            except Exception as error:  # every failure of a step is told, and the next one is played
                ok, detail = False, repr(error)
            if not ok:
                failed.append(step["step"])
            say(step["step"], ok, detail, started)
        started = time.monotonic()
        if host.faults:
            failed.append("clean")
        say("clean", not host.faults, host.faults, started)
        started = time.monotonic()
    took = time.monotonic() - started
    if "use" in chosen.command and took > 2:
        failed.append("close")
    say("close", "close" not in failed, "", started)
    say("done", not failed, {"ran": ran + 3, "failed": failed}, started)
    return 1 if failed else 0


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(anyio.run(main))
