"""Writes upb.ndjson: payloads, valid and damaged, and whether protobuf's official parser accepts them.

One JSON object a line:

    {"message":"test.Everything","payload":"GAE=","parses":true}

`message` is a message type of everything.proto or old.proto in this folder, `payload` is base64, and `parses` is what the official
parser for Python says, which is upb, the one in C that Ruby, PHP and Python share. What it parses has to land, and what it refuses
has to be refused; every difference is a decision that somebody has to make.

The payloads are all of those that `edges` lists: tags, lengths and numbers that are longer than needed or too long, field numbers
and wire types that do not exist, groups without an end or without a start, text that is not UTF-8, entries of maps, packed numbers
of a wrong length, depths around the limit. Then there are random ones until there are enough: valid messages of each type, several
of them one after the other (which merges them), and both with random damage. Most are of `test.Everything` and `test.Old`. Those
around the limit of depth are also of `test.Node` and `test.Dynamic`, which are the message types that contain themselves.

To write it again, after anything has installed the local environment (`make lint`):

    .local/venv/bin/python columns/testdata/upb.py

The same seed gives the same file, with any Python; another version of protobuf may decide otherwise. For other payloads:
`--seed 7 --count 100000 --out /tmp/fresh.ndjson`. It prints how many there are of each kind, and how many of those parse.

What upb 7.36.2 does where parsers differ:

- A number has up to 10 bytes, and the tenth may be anything below 0x80: bits beyond the 64th are dropped. A tag, and a length, has up
  to 5 bytes, needless ones included. A tag has at most 32 bits, a length at most 31.
- Field number 0 is refused, but not inside of an unknown group.
- 100 levels of messages and groups below the payload are accepted, known and unknown ones and entries of maps alike, and 101 are not.
- Groups are checked wherever they are, also unknown ones; what has a length and is unknown is not looked into.
- A field with a wire type that is not its own is an unknown field, and so is a group where there is a message, or the other way round.
- A string of proto3 has to be UTF-8 even if a later one replaces it; a string of proto2 need not be.
- Packed fixed numbers have to be a multiple of their size, and the last of packed varints has to end with its field.
- An entry of a map with an unknown field, or with a key or value of another wire type, is an unknown field as a whole.
"""

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from random import Random

import google.protobuf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError

FOLDER = Path(__file__).resolve().parent
SEED = 1
COUNT = 4_200
LONGEST_RANDOM = 48  # bytes, so that the file stays small

VARINT, FIXED64, LENGTH, START, END, FIXED32 = range(6)
EVERYTHING, OLD, NODE, DYNAMIC = "test.Everything", "test.Old", "test.Node", "test.Dynamic"
UNKNOWN = 300  # a field number that neither Everything, its messages nor Old have
DEPTHS = (1, 2, 50, 97, 98, 99, 100, 101, 102, 103, 150)

WIRE_TYPES = {
    FieldDescriptor.TYPE_DOUBLE: FIXED64,
    FieldDescriptor.TYPE_FIXED64: FIXED64,
    FieldDescriptor.TYPE_SFIXED64: FIXED64,
    FieldDescriptor.TYPE_FLOAT: FIXED32,
    FieldDescriptor.TYPE_FIXED32: FIXED32,
    FieldDescriptor.TYPE_SFIXED32: FIXED32,
    FieldDescriptor.TYPE_STRING: LENGTH,
    FieldDescriptor.TYPE_BYTES: LENGTH,
    FieldDescriptor.TYPE_MESSAGE: LENGTH,
    FieldDescriptor.TYPE_GROUP: START,
}
INTEGERS = (0, 1, 2, 3, 127, 128, 300, 70_000, -1, -3, 2**31 - 1, 2**31, -(2**31), 2**32, 2**63 - 1, -(2**63))
TEXTS = ("", "a", "é", "日本", "🦀", "\0", "\uffff")
# A byte that begins nothing, one that is never used, beginnings without an end, needless lengths, half of a surrogate pair and both
# halves, a number beyond Unicode, and a bad byte among good ones.
NOT_UTF8 = tuple(
    bytes.fromhex(text)
    for text in ("80", "ff", "c3", "e282", "c080", "e08080", "f0808080", "eda080", "eda080edb080", "f4908080", "61ff61")
)


def varint(value: int, length: int = 0) -> bytes:
    """At least `length` bytes, the last of which say nothing if fewer would do."""
    value &= 2**64 - 1 if value < 0 else -1
    out = bytearray()
    while True:
        out.append(value & 0x7F | 0x80)
        value >>= 7
        if not value and len(out) >= length:
            out[-1] &= 0x7F
            return bytes(out)


def tag(number: int, wire_type: int, length: int = 0) -> bytes:
    return varint(number << 3 | wire_type, length)


def chunk(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return tag(number, LENGTH) + varint(len(content)) + content


def group(number: int, content: bytes) -> bytes:
    return tag(number, START) + content + tag(number, END)


def nested(depth: int, *numbers: int, first: tuple[int, ...] = (), innermost: bytes = b"") -> bytes:
    """So many messages, from the outside to the inside in the fields `first`, and then in the fields `numbers` in turn."""
    content = innermost
    for number in reversed(list(islice(chain(first, cycle(numbers)), depth))):
        content = chunk(number, content)
    return content


def nested_groups(depth: int, number: int) -> bytes:
    return tag(number, START) * depth + tag(number, END) * depth


# What is listed


def edges() -> Iterator[tuple[str, str, bytes]]:
    """Kind, message type and payload of everything that is not left to chance."""
    for kind, payload in _anywhere():
        # At the top, and inside of what is decoded in different ways: messages, entries of maps, times, wrappers, groups.
        yield kind, EVERYTHING, payload
        yield kind, EVERYTHING, chunk(31, payload)
        yield kind, EVERYTHING, chunk(77, payload) + chunk(77, b"")
        yield kind, EVERYTHING, chunk(92, payload)
        yield kind, EVERYTHING, chunk(92, tag(1, VARINT) + b"\x05" + chunk(2, payload))
        yield kind, EVERYTHING, chunk(34, payload)
        yield kind, EVERYTHING, chunk(36, payload)
        yield kind, EVERYTHING, chunk(48, payload)
        yield kind, EVERYTHING, group(UNKNOWN, payload)
        yield kind, OLD, payload
        yield kind, OLD, group(2, payload)
    for number in (0, 3, 14, 31, 34, 48, 54, 63, 77, 91, UNKNOWN):
        for kind, payload in _of_field(number):
            yield kind, EVERYTHING, payload
    for number in (1, 2, 3, UNKNOWN):
        for kind, payload in _of_field(number):
            yield kind, OLD, payload
    for kind, payload in (*_texts(), *_entries(), *_packed(), *_merged()):
        yield kind, EVERYTHING, payload
    for kind, payload in _old():
        yield kind, OLD, payload
    yield from _depths()


def _anywhere() -> Iterator[tuple[str, bytes]]:
    """What means the same in every message, because no message here has such a field."""
    known = tag(UNKNOWN, VARINT)
    for length in (2, 5, 9, 10, 11):
        yield "long number", known + varint(1, length)
    for last in (0x01, 0x02, 0x7F):
        yield "long number", known + b"\xff" * 9 + bytes([last])
    for length in (3, 5, 6, 10, 11):
        yield "long tag", tag(UNKNOWN, VARINT, length) + b"\x01"
        yield "long length", tag(UNKNOWN, LENGTH) + varint(1, length) + b"a"
    for fifth in (0x0F, 0x10, 0x7F):
        yield "tag of more than 32 bits", b"\xe0\x92\x80\x80" + bytes([fifth]) + b"\x01"
    for bit in (32, 35, 63):
        yield "tag of more than 32 bits", varint((UNKNOWN << 3) + 2**bit) + b"\x01"
    for number in (2**29 - 1, 2**29, 2**29 + UNKNOWN):
        yield "field number at the limit", tag(number, VARINT) + b"\x01"
    for wire_type in (6, 7):
        yield "reserved wire type", tag(UNKNOWN, wire_type)
        yield "reserved wire type", tag(UNKNOWN, wire_type) + b"\x01"
    for wire_type, content in ((VARINT, b"\x01"), (FIXED64, b"12345678"), (LENGTH, b"\x00"), (START, b"\x04"), (FIXED32, b"1234")):
        yield "field number 0", tag(0, wire_type) + content
        yield "unknown field", tag(UNKNOWN, wire_type) + (tag(UNKNOWN, END) if wire_type == START else content)
        yield "truncated unknown field", tag(UNKNOWN, wire_type) + content[:-1]
    yield "end without start", tag(UNKNOWN, END)
    yield "group without end", tag(UNKNOWN, START)
    yield "group without end", tag(UNKNOWN, START) + tag(UNKNOWN, VARINT) + b"\x01"
    yield "end of another group", tag(UNKNOWN, START) + tag(UNKNOWN + 1, END)
    yield "end of another group", tag(UNKNOWN, START) * 2 + tag(UNKNOWN + 1, END) + tag(UNKNOWN, END)
    yield "groups in groups", group(UNKNOWN, group(UNKNOWN + 1, chunk(UNKNOWN, b"\xff")) + group(UNKNOWN, b""))
    yield "damage in a group", group(UNKNOWN, chunk(UNKNOWN, b"abc")[:-1])
    yield "long end of a group", tag(UNKNOWN, START) + tag(UNKNOWN, END, 5)
    yield "long end of a group", tag(UNKNOWN, START) + tag(UNKNOWN, END, 6)
    for length in (2, 2**31 - 1, 2**31, 2**32 + 1, -1):
        yield "length beyond the end", tag(UNKNOWN, LENGTH) + varint(length) + b"a"


def _of_field(number: int) -> Iterator[tuple[str, bytes]]:
    """Every wire type, length and truncation of one field."""
    contents = {VARINT: b"\x01", FIXED64: b"12345678", LENGTH: b"\x00", START: tag(number, END), FIXED32: b"1234"}
    for wire_type in range(8):
        content = contents.get(wire_type, b"")
        yield f"wire type {wire_type}", tag(number, wire_type) + content
        yield "wire type, then more", tag(number, wire_type) + content + chunk(UNKNOWN, b"a")
        for end in range(len(content)):
            yield "truncated field", tag(number, wire_type) + content[:end]
    for content in (b"\x08\x01", b"\x0a\x01a", b"\x08", b"\x0a", b"a", b"\xff", b"1234", b"12345678", b"123456789abc"):
        yield "content", chunk(number, content)
        yield "content in a group", group(number, content)
    for length in (2, 5, 6, 10, 11):
        yield "long tag", tag(number, LENGTH, length) + b"\x00"
        yield "long length", tag(number, LENGTH) + varint(0, length)
    for length in (1, 127, 2**31 - 1, 2**31, 2**32, 2**32 + 1, -1):
        yield "length beyond the end", tag(number, LENGTH) + varint(length)


def _texts() -> Iterator[tuple[str, bytes]]:
    for text in (*NOT_UTF8, *(text.encode() for text in TEXTS)):
        kind = "not UTF-8" if text in NOT_UTF8 else "UTF-8"
        if text in (*NOT_UTF8[3:], *(text.encode() for text in TEXTS[1:])):
            # One place for every text, and every place for some.
            yield kind, chunk(14, text)
            continue
        for number in (14, 15, 25, 26, 52, 59, 74, 75, 536870911, UNKNOWN):
            yield kind, chunk(number, text)
        for number in (31, 53, 77):
            yield kind, chunk(number, chunk(2, text))
        yield kind, chunk(31, chunk(5, tag(1, VARINT) + b"\x01" + chunk(2, text)))
        for number in (36, 48, 49, 56):
            yield kind, chunk(number, chunk(1, text))
        yield kind, chunk(36, chunk(2, text))
        yield kind, chunk(91, chunk(1, text) + chunk(2, b"v"))
        yield kind, chunk(91, chunk(1, b"k") + chunk(2, text))
        yield kind, chunk(96, tag(1, FIXED32) + b"1234" + chunk(2, chunk(1, text)))
        yield kind, chunk(97, chunk(1, text))
        yield f"{kind}, then replaced", chunk(14, text) + chunk(14, b"a")
        yield f"{kind}, then another member", chunk(52, text) + tag(51, VARINT) + b"\x01"


def _entries() -> Iterator[tuple[str, bytes]]:
    keys = {
        91: chunk(1, b"k"),
        92: tag(1, VARINT) + b"\x05",
        93: tag(1, VARINT) + b"\x01",
        94: tag(1, VARINT) + b"\x05",
        95: tag(1, VARINT) + b"\x05",
        96: tag(1, FIXED32) + b"1234",
        97: chunk(1, b"k"),
    }
    values = {
        91: chunk(2, b"v"),
        92: chunk(2, b"\x08\x01"),
        93: tag(2, VARINT) + b"\x01",
        94: chunk(2, b"\x08\x01"),
        95: tag(2, FIXED64) + b"12345678",
        96: chunk(2, b"\x0a\x01a"),
        97: chunk(2, b""),
    }
    for number, key in keys.items():
        value = values[number]
        entry = key + value
        yield "entry", chunk(number, entry) * 2
        for content in (b"", key, value, value + key, key + key + value, entry + value, entry + tag(3, VARINT) + b"\x01"):
            yield "entry of other fields", chunk(number, content)
        for end in range(1, len(entry)):
            yield "truncated entry", chunk(number, entry[:end])
        for other in (chunk(1, b"\xff"), tag(1, VARINT) + b"\x80", tag(1, FIXED32) + b"123", tag(1, FIXED64) + b"12345678"):
            yield "entry with another key", chunk(number, other + value)
        for other in (chunk(2, b"\xff"), chunk(2, b"\x08"), tag(2, VARINT) + b"\x01", group(2, b""), tag(2, START)):
            yield "entry with another value", chunk(number, key + other)
        yield "entry with an end", chunk(number, entry + tag(number, END))
        yield "entry as a group", group(number, entry)
        yield "entry as a number", tag(number, VARINT) + b"\x01"
    for last in (b"\x02", b"\x7f", b"\x80\x01", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"):
        yield "entry with a wide bool", chunk(93, tag(1, VARINT) + last)


def _packed() -> Iterator[tuple[str, bytes]]:
    for number, size in ((61, 8), (62, 4), (69, 4), (70, 8), (71, 4), (72, 8)):
        for length in range(0, 2 * size + 2):
            yield "packed fixed numbers", chunk(number, b"\x01" * length)
        yield "unpacked fixed numbers", (tag(number, FIXED64 if size == 8 else FIXED32) + b"\x01" * size) * 2
        yield "unpacked and packed", tag(number, FIXED64 if size == 8 else FIXED32) + b"\x01" * size + chunk(number, b"\x02" * size)
    for number in (63, 64, 65, 66, 67, 68, 73, 76):
        for content in (b"", b"\x01\x02", b"\x80", b"\x01\x80", b"\x80\x80", varint(1, 5) + b"\x02", varint(1, 10), varint(1, 11)):
            yield "packed numbers", chunk(number, content)
            yield "packed numbers, then more", chunk(number, content) + b"\x01"
        for last in (0x01, 0x02, 0x7F, 0x80):
            yield "packed number of more than 64 bits", chunk(number, b"\xff" * 9 + bytes([last]))
        for value in INTEGERS:
            yield "unpacked number", tag(number, VARINT) + varint(value)
        yield "unpacked and packed", tag(number, VARINT) + b"\x01" + chunk(number, b"\x01\x02") + tag(number, VARINT) + b"\x03"
    for number in (3, 13, 16, 22, 24, 27, 51, 57, 58):
        yield "packed where there is one", chunk(number, b"\x01\x02")
        for value in INTEGERS:
            yield "number", tag(number, VARINT) + varint(value)


def _merged() -> Iterator[tuple[str, bytes]]:
    for number in (31, 32, 34, 36, 43, 48, 53):
        for first, second in ((b"\x08\x01", b""), (b"", b"\x08\x01"), (b"\x08\x01", b"\x08\x02"), (b"\x08\x01", b"\x08")):
            yield "message twice", chunk(number, first) + chunk(number, second)
        yield "message, then another wire type", chunk(number, b"\x08\x01") + tag(number, VARINT) + b"\x01"
        yield "message and group", chunk(number, b"\x08\x01") + group(number, b"\x08\x02")
    members = (tag(51, VARINT) + b"\x01", chunk(52, b"a"), chunk(53, b"\x08\x01"), chunk(54, b""), chunk(55, b"\x08\x01"))
    members += (chunk(56, chunk(1, b"a")), tag(57, VARINT) + b"\x01", chunk(53, b"\x08"), chunk(52, b"\xff"))
    for first in members:
        for second in members:
            yield "members of a oneof", first + second
            yield "members of a oneof, three", first + second + first
    yield "two oneofs", members[0] + tag(58, VARINT) + b"\x01" + members[1] + chunk(59, b"\xff")


def _old() -> Iterator[tuple[str, bytes]]:
    for text in NOT_UTF8:
        yield "not UTF-8 in proto2", chunk(1, text)
        yield "not UTF-8 in proto2", group(3, chunk(1, text))
    for number in (2, 3):
        for content in (b"", b"\x08\x01", b"\x0a\x01a", b"\x08", b"\x0a\x02a", chunk(UNKNOWN, b"\xff"), group(2, b""), b"\x08\x80"):
            yield "group", group(number, content)
            yield "group twice", group(number, content) + group(number, b"\x08\x02")
            yield "group without end", tag(number, START) + content
            yield "end of another group", tag(number, START) + content + tag(number + 1, END)
            yield "two ends of a group", group(number, content) + tag(number, END)
            yield "group as a message", chunk(number, content)
        for length in (2, 5, 6, 10):
            yield "long end of a group", tag(number, START) + tag(number, END, length)
            yield "long start of a group", tag(number, START, length) + tag(number, END)
        yield "group in itself", nested_groups(2, number)
        yield "group in a group", tag(2, START) + tag(3, START) + tag(3, END) + tag(2, END)
        yield "ends in the wrong order", tag(2, START) + tag(3, START) + tag(2, END) + tag(3, END)


def _depths() -> Iterator[tuple[str, str, bytes]]:
    for depth in DEPTHS:
        for kind, message, payload in (
            ("unknown groups", EVERYTHING, nested_groups(depth, 20)),
            ("unknown groups without end", EVERYTHING, tag(20, START) * depth),
            ("unknown groups in a message", EVERYTHING, chunk(31, nested_groups(depth, 12))),
            ("unknown groups in a message in a message", EVERYTHING, chunk(31, chunk(4, nested_groups(depth, 12)))),
            ("unknown groups in an entry", EVERYTHING, chunk(92, nested_groups(depth, 12))),
            ("unknown groups", OLD, nested_groups(depth, 12)),
            ("unknown groups in a group", OLD, group(2, nested_groups(depth, 12))),
            ("lengths that nobody looks into", OLD, nested(depth, 12)),
            ("messages", NODE, nested(depth, 2, 1)),
            ("messages, then damage", NODE, nested(depth, 2, 1, innermost=b"\x08")),
            ("messages, then a group", NODE, nested(depth, 2, 1, innermost=group(9, b""))),
            ("messages, then a length", NODE, nested(depth, 2, 1, innermost=chunk(9, b""))),
            # Dynamic.anything, Struct.fields, and the value of the entry; then Value.list_value and ListValue.values in turn, or
            # Value.struct_value and the two again.
            ("lists of JSON", DYNAMIC, nested(depth, 6, 1, first=(1, 1, 2))),
            ("objects of JSON", DYNAMIC, nested(depth, 5, 1, 2, first=(1, 1, 2))),
        ):
            yield f"depth: {kind}", message, payload


# What is random


class Payloads:
    """Random payloads."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def valid(self, message: Descriptor, depth: int = 0) -> bytes:
        """Some fields of a message, in any order."""
        count = self._random.randint(0, 3 if depth else 4) if message.fields else 0
        chosen = [self._random.choice(message.fields) for _ in range(count)]
        return b"".join(self._field(field, depth) for field in chosen)

    def damaged(self, payload: bytes) -> bytes:
        """The payload with one to three changes."""
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            payload = self._random.choice(DAMAGES)(self, payload)
        return payload

    def _field(self, field: FieldDescriptor, depth: int) -> bytes:
        wire_type = WIRE_TYPES.get(field.type, VARINT)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = (self._field(member, depth + 1) for member in field.message_type.fields)
            return chunk(field.number, b"".join(entry))
        if not field.is_repeated:
            return self._one(field, wire_type, depth)
        count = self._random.randint(0, 3)
        if wire_type not in (LENGTH, START) and self._random.random() < 0.6:
            return chunk(field.number, b"".join(self._value(field, depth) for _ in range(count)))
        return b"".join(self._one(field, wire_type, depth) for _ in range(count))

    def _one(self, field: FieldDescriptor, wire_type: int, depth: int) -> bytes:
        value = self._value(field, depth)
        if wire_type == START:
            return group(field.number, value)
        return chunk(field.number, value) if wire_type == LENGTH else tag(field.number, wire_type) + value

    def _value(self, field: FieldDescriptor, depth: int) -> bytes:
        wire_type = WIRE_TYPES.get(field.type, VARINT)
        if wire_type == VARINT:
            return varint(self._random.choice(INTEGERS))
        if wire_type in (FIXED64, FIXED32):
            return self._random.randbytes(8 if wire_type == FIXED64 else 4)
        if field.message_type is not None:
            return self.valid(field.message_type, depth + 1) if depth < 3 else b""
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._random.choice(TEXTS).encode()
        return self._random.randbytes(self._random.randint(0, 3))

    def _flip(self, payload: bytes) -> bytes:
        at = self._at(payload)
        return payload[:at] + bytes(byte ^ 1 << self._random.randrange(8) for byte in payload[at : at + 1]) + payload[at + 1 :]

    def _truncate(self, payload: bytes) -> bytes:
        return payload[: self._at(payload)]

    def _insert(self, payload: bytes) -> bytes:
        at = self._at(payload)
        return payload[:at] + self._random.choice(PIECES) + payload[at:]

    def _remove(self, payload: bytes) -> bytes:
        at = self._at(payload)
        return payload[:at] + payload[at + self._random.randint(1, 3) :]

    def _replace(self, payload: bytes) -> bytes:
        at = self._at(payload)
        return payload[:at] + self._random.randbytes(1) + payload[at + 1 :]

    def _repeat(self, payload: bytes) -> bytes:
        at = self._at(payload)
        return payload[:at] + payload[at : at + self._random.randint(1, 6)] * 2 + payload[at:]

    def _append(self, payload: bytes) -> bytes:
        return payload + self._random.choice(PIECES)

    def _wrap(self, payload: bytes) -> bytes:
        number = self._random.choice((1, 2, 3, 5, 31, 53, 77, 92, UNKNOWN))
        return self._random.choice((chunk, group))(number, payload)

    def _at(self, payload: bytes) -> int:
        return self._random.randrange(len(payload)) if payload else 0


DAMAGES = (
    *(Payloads._flip, Payloads._truncate, Payloads._insert, Payloads._remove),
    *(Payloads._replace, Payloads._repeat, Payloads._append, Payloads._wrap),
)
# What is put into payloads.
PIECES = (
    *(b"\x00", b"\x01", b"\x80", b"\xff", b"\x80\x00", b"\x80" * 4, b"\x80" * 9, b"\xff" * 9 + b"\x01", b"\xff" * 5),
    *(tag(UNKNOWN, START), tag(UNKNOWN, END), group(UNKNOWN, b""), chunk(UNKNOWN, b"\xff"), tag(UNKNOWN, VARINT) + b"\x01"),
    *(tag(2, START), tag(2, END), tag(3, START), tag(3, END), tag(31, START), tag(31, END), tag(0, VARINT) + b"\x01"),
    *(tag(3, 6), tag(14, 7), tag(14, LENGTH) + varint(-1), chunk(14, b"\xff"), chunk(31, b""), chunk(91, b""), chunk(63, b"\x80")),
)


def random_payload(random: Random, types: dict[str, Descriptor]) -> tuple[str, str, bytes]:
    """Kind, message type and payload."""
    message = random.choice((EVERYTHING, EVERYTHING, EVERYTHING, OLD))
    payloads = Payloads(random)
    kind = random.choice(("valid", "merged", "damaged", "damaged", "damaged", "merged and damaged"))
    payload = payloads.valid(types[message])
    if kind.startswith("merged"):
        payload += payloads.valid(types[message])
    if kind.endswith("damaged"):
        payload = payloads.damaged(payload)
    return f"random: {kind}", message, payload


def compiled() -> tuple[dict[str, Descriptor], dict[str, type]]:
    """The message types by name, and their classes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={FOLDER}", "--include_imports"]
        subprocess.run([*protoc, f"--descriptor_set_out={out}", "everything.proto", "old.proto"], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    types = {name: pool.FindMessageTypeByName(name) for name in (EVERYTHING, OLD, NODE, DYNAMIC)}
    return types, {name: message_factory.GetMessageClass(message) for name, message in types.items()}


def parses(message: type, payload: bytes) -> bool:
    try:
        message.FromString(payload)
    except DecodeError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="Payloads, and whether protobuf's official parser accepts them.")
    parser.add_argument("--seed", type=int, default=SEED, help="of the random ones (default: %(default)s)")
    parser.add_argument("--count", type=int, default=COUNT, help="how many (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER / "upb.ndjson", help="the file (default: upb.ndjson beside this)")
    chosen = parser.parse_args()
    if api_implementation.Type() != "upb":
        sys.exit(f"This protobuf parses with {api_implementation.Type()}, not with upb. The local environment has the right one.")

    types, classes = compiled()
    cases: dict[tuple[str, bytes], str] = {}
    listed = list(edges())
    random = Random(chosen.seed)
    random.shuffle(listed)
    for kind, message, payload in listed:
        if len(cases) < chosen.count:
            cases.setdefault((message, payload), kind)
    while len(cases) < chosen.count:
        kind, message, payload = random_payload(random, types)
        if len(payload) <= LONGEST_RANDOM:
            cases.setdefault((message, payload), kind)

    counts: Counter[str] = Counter()
    parsed: Counter[str] = Counter()
    with chosen.out.open("w") as out:
        for (message, payload), kind in cases.items():
            accepted = parses(classes[message], payload)
            counts[kind] += 1
            parsed[kind] += accepted
            case = {"message": message, "payload": base64.b64encode(payload).decode(), "parses": accepted}
            out.write(json.dumps(case, separators=(",", ":")) + "\n")
    for kind in sorted(counts):
        print(f"{counts[kind]:6,} {kind}: {parsed[kind]:,} parse")
    print(f"{counts.total():6,} in all: {parsed.total():,} parse, with protobuf {google.protobuf.__version__}, upb")


if __name__ == "__main__":
    main()
