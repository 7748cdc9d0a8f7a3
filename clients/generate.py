#!/usr/bin/env python3
"""Makes the types of the clients from the server's own contracts.

* `docs/openapi.json`: what clients ask by HTTP, and every type that this needs.
* `crates/rpc/proto`: the JSON forms of the log and of the registry, as the calls take and give them.

What operators and other servers ask is left out. Run it after a contract has changed; with
`--check` it writes nothing and ends with 1 if what is committed is not what it would write.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import re
import sys
import textwrap
from typing import Dict, Iterable, List, Optional, Tuple

CLIENTS = pathlib.Path(__file__).resolve().parent
ROOT = CLIENTS.parent

# Paths of the document that are not for clients.
NOT_FOR_CLIENTS = ("/operate", "/peer", "/openapi.json", "/asyncapi.json")
# Calls that need HTTP/2.
NOT_BY_JSON = ("AppendMany",)
# What no call gives by itself: the detail of a refused append.
DETAILS = ("AppendProblem",)

NUMBERS_32 = {"uint8", "uint16", "uint32", "int32"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """How a value stands in JSON, and what it is in each language."""

    call: str  # the same call of the `shape` modules in both languages
    python: str
    typescript: str
    needs: Tuple[str, ...] = ()


@dataclasses.dataclass
class Field:
    json: str
    shape: Shape
    required: bool
    doc: str


@dataclasses.dataclass
class Type:
    """A record, or a choice of words."""

    name: str
    doc: str
    fields: List[Field] = dataclasses.field(default_factory=list)
    words: List[Tuple[str, str]] = dataclasses.field(default_factory=list)


TEXT = Shape("text()", "str", "string")
BOOL = Shape("boolean()", "bool", "boolean")
BYTES = Shape("octets()", "bytes", "Uint8Array")
RAW = Shape("raw()", "Any", "Json")


def whole(bits: int, quoted: bool) -> Shape:
    """A whole number; JSON of protobuf has 64 bits in quotes."""
    wide = bits == 64
    name = f"uint{bits}" if not (wide and quoted) else "quoted64"
    return Shape(f"{name}()", "int", "bigint" if wide else "number")


def ref(name: str) -> Shape:
    return Shape(f"ref({name})", name, name, (name,))


def optional(shape: Shape) -> Shape:
    return Shape(
        f"optional({shape.call})",
        f"Optional[{shape.python}]",
        f"{shape.typescript} | undefined",
        shape.needs,
    )


def many(shape: Shape) -> Shape:
    inner = shape.typescript
    inner = f"({inner})[]" if "|" in inner else f"{inner}[]"
    return Shape(f"many({shape.call})", f"List[{shape.python}]", inner, shape.needs)


def table(key: Shape, value: Shape) -> Shape:
    keys = "number" if key.typescript == "number" else "string"
    return Shape(
        f"table({key.call}, {value.call})",
        f"Dict[{key.python}, {value.python}]",
        f"Record<{keys}, {value.typescript}>",
        value.needs,
    )


# The document of the HTTP doors.


@functools.lru_cache(maxsize=None)
def document() -> dict:
    return json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))


def schemas() -> Dict[str, dict]:
    return document()["components"]["schemas"]


def of_openapi() -> List[Type]:
    wanted: List[str] = []

    def visit(node: object) -> None:
        if isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str):
                name = target.rsplit("/", 1)[1]
                if name not in wanted:
                    wanted.append(name)
                    visit(schemas()[name])
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    for path, item in document()["paths"].items():
        if not path.startswith(NOT_FOR_CLIENTS):
            visit(item)
    found = (openapi_type(name, schemas()[name]) for name in sorted(wanted))
    return [made for made in found if made is not None]


def openapi_type(name: str, schema: dict) -> Optional[Type]:
    doc = schema.get("description", "")
    if is_words(schema):
        words = [(one["const"], one.get("description", "")) for one in schema["oneOf"]]
        return Type(name, doc, words=words)
    if "properties" not in schema or "oneOf" in schema:
        # One of several shapes: given as JSON.
        return None
    required = set(schema.get("required", []))
    fields = []
    for key, value in schema["properties"].items():
        shape = openapi_shape(value)
        is_required = key in required
        if not is_required and "default" not in value and not shape.call.startswith("optional"):
            shape = optional(shape)
        fields.append(Field(key, shape, is_required, value.get("description", "")))
    return Type(name, doc, fields=fields)


def is_words(schema: dict) -> bool:
    return "oneOf" in schema and all("const" in one for one in schema["oneOf"])


def openapi_shape(schema: dict) -> Shape:
    if "anyOf" in schema:
        some = [one for one in schema["anyOf"] if one != {"type": "null"}]
        return optional(openapi_shape(some[0])) if len(some) == 1 else RAW
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return ref(name) if openapi_type(name, schemas()[name]) else RAW
    kinds = schema.get("type")
    if isinstance(kinds, list):
        one = [kind for kind in kinds if kind != "null"]
        return optional(openapi_shape({**schema, "type": one[0]}))
    if kinds == "string":
        return TEXT
    if kinds == "boolean":
        return BOOL
    if kinds == "integer":
        return whole(32 if schema.get("format") in NUMBERS_32 else 64, quoted=False)
    if kinds == "array":
        return many(openapi_shape(schema["items"]))
    if kinds == "object" and isinstance(schema.get("additionalProperties"), dict):
        return table(TEXT, openapi_shape(schema["additionalProperties"]))
    return RAW


# The descriptions of the calls.

FIELD = re.compile(
    r"(?P<label>repeated |optional )?(?P<type>map<\s*\w+\s*,\s*\w+\s*>|\w+) (?P<name>\w+) = \d+;"
)
SCALARS = {
    "string": TEXT,
    "bool": BOOL,
    "bytes": BYTES,
    "uint32": whole(32, True),
    "uint64": whole(64, True),
}


def of_proto(path: pathlib.Path) -> List[Type]:
    """The messages that calls by JSON take or give, and what these hold."""
    types: Dict[str, Type] = {}
    roots: List[str] = []
    words: set = set()
    comment: List[str] = []
    block: List[str] = []
    current: Optional[Type] = None
    pending: List[Tuple[Type, str, str, str, str]] = []
    for raw_line in path.read_text("utf-8").splitlines():
        line = raw_line.strip()
        if line.startswith("//"):
            comment.append(line[2:].strip())
            continue
        doc, comment = " ".join(comment), []
        opened = re.match(r"(message|enum|service|oneof) (\w+) \{(\})?", line)
        if opened:
            kind, name, closed = opened.groups()
            if kind in ("message", "enum"):
                current = types[name] = Type(name, doc)
                if kind == "enum":
                    words.add(name)
            if closed:
                current = None
            else:
                block.append(kind)
        elif line == "}":
            if block.pop() != "oneof":
                current = None
        elif block and block[-1] == "service":
            call = re.match(r"rpc (\w+)\((\w+)\) returns \((?:stream )?(\w+)\);", line)
            if call and call.group(1) not in NOT_BY_JSON:
                roots += call.group(2, 3)
        elif current and block[-1] == "enum":
            word = re.match(r"(\w+) = \d+;", line)
            if word:
                current.words.append((word.group(1), doc))
        elif current:
            field = FIELD.match(line)
            if field:
                label = "oneof" if block[-1] == "oneof" else (field["label"] or "").strip()
                pending.append((current, field["name"], field["type"], label, doc))
    roots += [name for name in DETAILS if name in types]
    for owner, name, kind, label, doc in pending:
        shape = proto_shape(kind, label, words)
        owner.fields.append(Field(camel(name), shape, False, doc))
    return [types[name] for name in reached(types, roots)]


def proto_shape(kind: str, label: str, words: set) -> Shape:
    mapped = re.match(r"map<\s*(\w+)\s*,\s*(\w+)\s*>", kind)
    if mapped:
        return table(SCALARS[mapped.group(1)], SCALARS[mapped.group(2)])
    shape = SCALARS.get(kind) or ref(kind)
    if label == "repeated":
        return many(shape)
    if label in ("optional", "oneof") or (kind not in SCALARS and kind not in words):
        return optional(shape)
    return shape


def reached(types: Dict[str, Type], roots: Iterable[str]) -> List[str]:
    found: List[str] = []
    todo = list(roots)
    while todo:
        name = todo.pop(0)
        if name not in found:
            found.append(name)
            todo += [need for field in types[name].fields for need in field.shape.needs]
    return sorted(found)


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


# What is written.

MADE = "Made by clients/generate.py from {source}: change that, and run it again."


def sentences(doc: str) -> str:
    return " ".join(doc.split())


def python_name(json_name: str) -> str:
    name = snake(json_name)
    return f"{name}_" if name in ("from", "type_") else name


def python(types: List[Type], source: str, doc: str) -> str:
    body: List[str] = []
    for made in types:
        if made.words:
            words = "".join(f'\n    "{word}",' for word, _ in made.words)
            body += ["", f"{made.name} = Literal[{words}\n]", *python_doc(made.doc, "")]
    choices = {made.name for made in types if made.words}
    for made in types:
        if made.words:
            continue
        body += ["", "", "@dataclass(frozen=True)", f"class {made.name}(s.Record):"]
        body += python_doc(made.doc or f"{made.name} of the protocol.", "    ")
        # What has to be there comes first: a dataclass asks for it.
        for field in sorted(made.fields, key=lambda field: not field.required):
            call = python_call(field.shape.call, choices)
            required = ", required=True" if field.required else ""
            name, kind = python_name(field.json), field.shape.python
            body += ["", f'    {name}: {kind} = s.part("{field.json}", {call}{required})']
            body += python_doc(field.doc, "    ")
    text = "\n".join(body)
    # What annotations and choices name; the same words in sentences are no use of them.
    uses = re.findall(r"^    \w+: (.*?) = |^\w+ = (\w+)", text, re.M)
    used = set(re.findall(r"\w+", " ".join(" ".join(use) for use in uses)))
    typing = [name for name in ("Any", "Dict", "List", "Literal", "Optional") if name in used]
    typing += ["get_args"] if choices else []
    head = [f'"""{doc}', "", "Made by clients/generate.py from", f"{source}: change that, and run it again."]
    head += ['"""', "", "from __future__ import annotations", ""]
    head += ["from dataclasses import dataclass", f"from typing import {', '.join(typing)}", ""]
    return "\n".join([*head, "from .. import _shape as s"]) + "\n" + text + "\n"


def python_call(call: str, choices: Iterable[str]) -> str:
    """Classes are named before they are made, so what stands in them is said lazily."""

    def named(match: "re.Match[str]") -> str:
        shape, name = match.groups()
        if shape != "ref":
            return f"s.{shape}({name}"
        return f"s.choice(*get_args({name})" if name in choices else f"s.ref(lambda: {name}"

    return re.sub(r"(\w+)\((\w*)(?=\))", named, re.sub(r"(\w+)\((?=\w+\()", r"s.\1(", call))


def python_doc(doc: str, indent: str) -> List[str]:
    if not doc:
        return []
    lines = textwrap.wrap(sentences(doc), 96 - len(indent))
    if len(lines) == 1 and len(lines[0]) + len(indent) + 6 <= 100:
        return [f'{indent}"""{lines[0]}"""']
    return [f'{indent}"""{lines[0]}', *(indent + line for line in lines[1:]), f'{indent}"""']


def typescript(types: List[Type], source: str, doc: str) -> str:
    out = [f"// {doc}", "//", f"// {MADE.format(source=source)}", ""]
    choices = {made.name for made in types if made.words}
    uses = {"RecordShape", "record"}
    for made in types:
        if made.words:
            uses |= {"Shape", "choice"}
        for field in made.fields:
            calls = re.findall(r"\b(\w+)\(", field.shape.call)
            uses.update(calls)
            if "raw" in calls:
                uses.add("Json")
    named = [f"type {name}" if name[0].isupper() else name for name in sorted(uses)]
    out += ["import {", *(f"  {name}," for name in named), '} from "../shape.js";']
    for made in types:
        out.append("")
        out += typescript_doc(made.doc, "")
        if made.words:
            out.append(f"export type {made.name} =")
            words = [f'  | "{word}"' for word, _ in made.words]
            out += words[:-1] + [words[-1] + ";"]
            values = ", ".join(f'"{word}"' for word, _ in made.words)
            out.append(f"export const {made.name}: Shape<{made.name}> = choice([{values}]);")
            continue
        out.append(f"export interface {made.name} {{")
        for field in made.fields:
            out += typescript_doc(field.doc, "  ")
            kind = field.shape.typescript
            mark = "?" if kind.endswith(" | undefined") else ""
            out.append(f"  {camel(snake(field.json))}{mark}: {kind};")
        out.append("}")
        out.append(f"export const {made.name}: RecordShape<{made.name}> = record(() => [")
        for field in made.fields:
            call = field.shape.call
            call = re.sub(r"ref\((\w+)\)", r"ref(() => \1)", call)
            required = "" if field.required else ", true"
            out.append(f'  ["{camel(snake(field.json))}", "{field.json}", {call}{required}],')
        out.append("]);")
    return "\n".join(out) + "\n"


def typescript_doc(doc: str, indent: str) -> List[str]:
    if not doc:
        return []
    lines = textwrap.wrap(sentences(doc), 92 - len(indent))
    if len(lines) == 1:
        return [f"{indent}/** {lines[0]} */"]
    return [f"{indent}/**", *(f"{indent} * {line}" for line in lines), f"{indent} */"]


def made() -> Dict[pathlib.Path, str]:
    """Every file that is made, and what is in it."""
    files: Dict[pathlib.Path, str] = {}
    sources = [
        ("http", "What clients ask by HTTP.", "docs/openapi.json", of_openapi()),
    ]
    for part, doc in [
        ("log", "The JSON forms of the calls of a log."),
        ("registry", "The JSON forms of the calls of the registry."),
    ]:
        path = f"crates/rpc/proto/anabranch/{part}/v1/{part}.proto"
        sources.append((part, doc, path, of_proto(ROOT / path)))
    for name, doc, source, types in sources:
        files[CLIENTS / f"python/anabranch/wire/{name}.py"] = python(types, source, doc)
        files[CLIENTS / f"typescript/src/wire/{name}.ts"] = typescript(types, source, doc)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    stale = []
    for path, text in made().items():
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT))
        if not arguments.check:
            path.write_text(text, "utf-8")
    for path in stale:
        print(f"{path}: {'is not what its source says' if arguments.check else 'written'}")
    if arguments.check and stale:
        print("run clients/generate.py and commit what it writes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
