"""Writes the reference of the chat's protocol from its message types: ``python -m tests.protocols.chat.reference``."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import msgspec

from protocols.chat import hub, messages
from protocols.chat.options import Options
from protocols.chat.wires import DEFAULT_WIRE, LEAST_FRAME

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "chat-protocol.md"

HEAD = f"""# The chat's protocol

What a client and a server of the chat say to each other, version {messages.VERSION}. This page is written from the types in
[`messages.py`](../../protocols/chat/messages.py), [`hub.py`](../../protocols/chat/hub.py) and
[`options.py`](../../protocols/chat/options.py) by `python -m tests.protocols.chat.reference`, and a test holds it equal to
them. What is promised is [explained](../explanation/chat.md); a program of your own is
[begun](../how-to/embed-the-chat.md) in ten lines.

## How messages travel

- Over any wire whose codec carries maps (MessagePack, JSON, CBOR), and whose frames carry {LEAST_FRAME:,} bytes.
  `framing-chat` uses `{DEFAULT_WIRE}` unless it is told otherwise.
- A message is a map. Its `type` says which one it is; fields that have their default may be left out. Unknown fields are
  ignored, so either side may learn new ones first; of a type that is unknown the server says so (`unsupported`), and a
  client ignores it. A field of a wrong type or size is answered with `malformed`, and the connection goes on.
- The client speaks first, and its first message is `hello`. The server answers with `welcome`; or with `error`, and another
  `hello` may be tried; or with `close`.
- An *id* is `[session, n]`: the session is that of the last `welcome`, and n counts up. It names a request in its answer;
  and a post that comes a second time by the same id is stored once, and answered as the first time. So a client that is
  not sure sends its post again.
- A *cursor* is the seq of the last event that a client has seen of a room. Events of a room have seqs from 1 on without a gap,
  and each connection is told of them in this order, from the seq on that `reset`, `ok` or its own cursor named.
- `members` of a room, and the `joined`, `left` and `renamed` events behind its `at`, are who is in it at any later time.
- A room whose name begins with `@` is that of two people. It is opened by the first post `to` a name, and nobody else learns
  of it. Who loses the connection stays in it, also behind the time of grace; who leaves it, or whose session ends, has `left`,
  and has `joined` by the next post `to` a name that goes from one to the other. The server itself leaves one that somebody
  has read and whose other one is away, where they are in too many.
- Everybody is in the room `{messages.ANNOUNCEMENTS}`, and only the server speaks there.
"""

KINDS = {"int": "integer", "str": "text", "bool": "true or false", "float": "number", "none": "nothing"}


def markdown(docstring: str | None) -> str:
    """A docstring's text: names of types as the wire spells them."""
    text = re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(docstring or ""))
    return re.sub(r"`([A-Z]\w+)`", lambda found: f"`{found[1].lower()}`", text)


def described(type_: Any) -> str:
    """A type and its bounds, in words."""
    info = msgspec.inspect
    if isinstance(type_, info.UnionType):
        return " or ".join(described(each) for each in type_.types if not isinstance(each, info.NoneType))
    if isinstance(type_, info.LiteralType):
        return " or ".join(f'`"{value}"`' for value in type_.values)
    if isinstance(type_, info.StrType):
        bounds = [f"{type_.min_length or 0} to {type_.max_length:,} characters"] if type_.max_length else []
        return ", ".join(["text", *bounds])
    if isinstance(type_, info.IntType):
        power = f"2^{(type_.le + 1).bit_length() - 1} - 1" if type_.le and type_.le > 1 << 20 else type_.le
        return "integer" + (f", {type_.ge} to {power}" if type_.le else "")
    if isinstance(type_, info.TupleType):
        return "id"
    if isinstance(type_, info.ListType):
        return f"list of {described(type_.item_type)}"
    if isinstance(type_, info.DictType):
        most = f", {type_.max_length:,} at most" if type_.max_length else ""
        return f"map of {described(type_.key_type)} to {described(type_.value_type)}{most}"
    if isinstance(type_, info.StructType):
        name = type_.cls.__name__
        return f"`{name.lower()}`" if type_.cls.__struct_config__.tag else f"map, [{name.lower()}](#{name.lower()})"
    return KINDS[type(type_).__name__.removesuffix("Type").lower()]


def table(struct: type[msgspec.Struct]) -> list[str]:
    """The fields of a message."""
    info: Any = msgspec.inspect.type_info(struct)
    if not info.fields:
        return []
    lines = ["| field | | |", "|---|---|---|"]
    for field in info.fields:
        if field.required:
            needed = "required"
        elif field.default is None or field.default is msgspec.NODEFAULT:
            needed = "may be left out"
        else:
            needed = f"`{msgspec.json.encode(field.default).decode()}` where it is left out"
        lines.append(f"| `{field.name}` | {described(field.type)} | {needed} |")
    return lines


def section(struct: type[msgspec.Struct]) -> list[str]:
    return [f"### {struct.__name__.lower()}", "", markdown(struct.__doc__), "", *table(struct), ""]


def spoken(text: ast.expr | None, known: dict[str, ast.expr]) -> str:
    """What people are told, as the source has it; ``known`` are the names in sight."""
    if isinstance(text, ast.Name) and text.id in known:
        text = known[text.id]
    if isinstance(text, ast.IfExp):
        text = text.body
    if isinstance(text, ast.Constant):
        return str(text.value)
    if isinstance(text, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in text.values)
    return ""


def codes() -> list[str]:
    """Every code that the server sends, and in which message."""
    found: dict[tuple[str, str], set[str]] = {}
    for module, names in ((messages, {"Refused": "error"}), (hub, {"Error": "error", "_close": "close"})):
        tree = ast.parse(inspect.getsource(module))
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            known: dict[str, ast.expr] = {}
            for node in sorted(ast.walk(function), key=lambda node: getattr(node, "lineno", 0)):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    known[node.targets[0].id] = node.value
                if not isinstance(node, ast.Call):
                    continue
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in names:
                    at = int(name == "_close")
                    given = {word.arg: word.value for word in node.keywords}
                    code, text = [*(given.get(word) for word in ("code", "text"))]
                    code = code or node.args[at]
                    text = text or (node.args[at + 1] if len(node.args) > at + 1 else None)
                    if isinstance(code, ast.Constant):
                        found.setdefault((str(code.value), names[name]), set()).add(spoken(text, known))
    lines = ["| code | in | for people, for example |", "|---|---|---|"]
    for (code_, where), texts in sorted(found.items()):
        lines.append(f"| `{code_}` | `{where}` | {max(texts) or 'what is wrong with it'} |")
    return lines


def page() -> str:
    """The page."""
    ways = [set(get_args(messages.FromClient)), set(get_args(messages.FromServer))]
    order = [each for each in vars(messages).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    lines = [HEAD]
    for title, chosen in (
        ("Client to server", ways[0] - ways[1]),
        ("Server to client", ways[1] - ways[0]),
        ("Both ways", ways[0] & ways[1]),
    ):
        lines += [f"## {title}", "", *(line for each in order if each in chosen for line in section(each))]
    inner = [each for each in order if not each.__name__.startswith("_") and each not in ways[0] | ways[1]]
    lines += ["## Parts of messages", "", *(line for each in inner for line in section(each))]
    lines += [
        "## Codes",
        "",
        "Programs go by the code of an `error` or a `close`; the text is for people.",
        "",
        *codes(),
        "",
    ]
    lines += [
        "## Limits",
        "",
        "What `Options` of the hub has where nothing else is said:",
        "",
        markdown(Options.__doc__),
        "",
    ]
    lines += ["| option | default |", "|---|---|"]
    lines += [f"| `{field.name}` | {field.default!r} |" for field in fields(Options)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
