"""The test server on the official Python SDK, over standard input and output."""

from typing import Any

import anyio
import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

server = MCPServer("interop-python-server", instructions="Says what it sees.")
cancelled = anyio.Event()


class Weather(BaseModel):
    city: str
    degrees: float
    sunny: bool


class Person(BaseModel):
    name: str
    check: bool
    integer: int


@server.tool()
def echo(message: str) -> str:
    """Gives the message back."""
    return message


@server.tool()
def numbers(large: int, small: float, ratio: float) -> str:
    """Shows numbers as this language reads them."""
    return repr([large, small, ratio])


@server.tool()
def weather(city: str) -> Weather:
    """Answers with structure."""
    return Weather(city=city, degrees=-0.5, sunny=True)


@server.tool()
async def count(steps: int, ctx: Context) -> str:
    """Takes its time and says how far it is, the last time right ahead of the answer."""
    try:
        for step in range(1, steps + 1):
            await anyio.sleep(0.05)
            await ctx.report_progress(step, steps, f"step {step}")
    except anyio.get_cancelled_exc_class():
        cancelled.set()
        raise
    return f"counted to {steps}"


@server.tool()
async def stopped() -> str:
    """Says whether a call was cancelled."""
    with anyio.move_on_after(2):
        await cancelled.wait()
    return "stopped" if cancelled.is_set() else "never cancelled"


@server.tool()
async def sample(prompt: str, ctx: Context) -> str:
    """Has the client's model say something."""
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    result: Any = await ctx.session.create_message([message], max_tokens=12)
    return result.content.text


@server.tool()
async def ask(ctx: Context) -> str:
    """Asks the client's user."""
    answer: Any = await ctx.elicit("Who is it?", Person)
    return f"{answer.action} {answer.data.name}"


@server.tool()
def fail() -> str:
    """Fails on purpose."""
    raise ToolError("failed on purpose")


@server.resource("notes://today")
def today() -> str:
    """The notes of today."""
    return "nothing yet"


@server.resource("notes://{day}/{line}")
def note(day: str, line: str) -> str:
    """A line of a day's notes."""
    return f"line {line} of {day}"


@server.prompt()
def summary(city: str) -> str:
    """Asks for a summary."""
    return f"What is new in {city}?"


if __name__ == "__main__":
    server.run()
