"""A child in Python that appends every line it reads to the file named by SEEN, as its parser understands it, and misbehaves when told to."""

import json
import os
import sys
import time

out = sys.stdout.buffer


def write(data):
    out.write(data)
    out.flush()


def text(text):
    return {"content": [{"type": "text", "text": text}]}


def report(line):
    try:
        message = json.loads(line)
        params = message.get("params") or {}
        seen = {"line": line, "method": message.get("method"), "name": params.get("name"), "arguments": params.get("arguments")}
    except Exception as error:  # whatever it is, it is told
        seen = {"line": line, "error": repr(error)}
    with open(os.environ["SEEN"], "a", encoding="utf-8") as file:
        file.write(json.dumps(seen) + "\n")


def slowly(line):
    for at, byte in enumerate(line):
        if at % 8 == 0:
            time.sleep(0.002)
        write(bytes([byte]))


def die_mid_line(line):
    write(line[:40])
    os._exit(9)


def call(params, answer):
    name, given = params.get("name"), params.get("arguments")
    if name == "environment":
        answer(text(json.dumps(list(os.environ))))
    elif name == "argv":
        answer(text(json.dumps(sys.argv[1:])))
    elif name == "garbage":
        write(b'\xef\xbb\xbfServer listening\n\xff\xfe\n[]\n{"half":\n\nnull\n{}\n')
        answer(text("ok"))
    elif name == "long_line":
        write(b"x" * given["bytes"])
        write(b"\n")
        answer(text("ok"))
    elif name == "slowly":
        answer(text("ok"), slowly)
    elif name == "twice":
        answer(text("first"))
        answer(text("second"))
    elif name == "die_mid_line":
        answer(text("ok"), die_mid_line)
    else:
        answer(text("seen"))


def handle(message):
    identifier, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if identifier is None or method is None:
        return

    def answer(result, by=write):
        by(json.dumps({"jsonrpc": "2.0", "id": identifier, "result": result}).encode() + b"\n")

    if method == "initialize":
        version = params["protocolVersion"]
        answer({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "reporter", "version": "1"}})
    elif method == "tools/call":
        call(params, answer)
    else:
        answer({})


for line in sys.stdin:
    report(line.removesuffix("\n"))
    handle(json.loads(line))
