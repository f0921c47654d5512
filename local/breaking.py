"""What a change of `proto/` breaks: readers of files that exist, or producers that go on sending.

buf compares messages, fields and enums, by the rules of `buf.yaml`. The rest is compared here: the option of each event,
and the order of the columns.

Only the standard library and buf, so that it needs nothing else of the private environments.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from local import environment
from local.paths import BUF_CONFIG, BUF_REQUIREMENTS, BUF_VENV, PROTO, ROOT
from local.progress import Failure

BUF = BUF_VENV / "bin" / "buf"
# Of `landfall/options.proto`, as buf writes it.
OPTION = "[landfall.event]"
# A field that is renamed has another JSON name, too, and one line about it is enough.
FOLLOWS_FROM = {"FIELD_SAME_JSON_NAME": "FIELD_SAME_NAME"}

ADD_FIELD = "undo it, or add a field with a name and a number of its own and mark this one [deprecated = true]"
PUT_BACK = "Put it back as it was, and mark it [deprecated = true]"
PUT_MESSAGE_BACK = "Put it back as it was, and mark it with option deprecated = true"
PUT_OPTION_BACK = "Put option (landfall.event) back, and mark the message with option deprecated = true"
# Why it breaks and what to do, by the beginning of the name of buf's rule. The first that fits.
ADVICE = {
    "FIELD_SAME_NAME": f"Files have a column of the old name: {ADD_FIELD}",
    "FIELD_SAME_JSON_NAME": "Where the field is a part of a JSON column, files have the old name: undo it",
    "FIELD_SAME_TYPE": f"Files have a column of the old type: {ADD_FIELD}",
    "FIELD_SAME_CARDINALITY": f"Files have a column of the old type: {ADD_FIELD}",
    "FIELD_SAME_ONEOF": f"Of a message that sets several members of a oneof, only the last is read: {ADD_FIELD}",
    "FIELD_NO_DELETE": f"Files have its column, and producers send it. {PUT_BACK}",
    "ENUM_VALUE_SAME_NAME": "Files have the old name as text: undo it, or add a value with a number of its own",
    "ENUM_VALUE_NO_DELETE": f"Files have its name as text, and producers send it. {PUT_BACK}",
    "PACKAGE_NO_DELETE": f"Files have columns of its messages, and producers send them. {PUT_MESSAGE_BACK}",
    "PACKAGE_": f"Files have its columns, and producers send it. {PUT_MESSAGE_BACK}",
    "RESERVED_": "What uses the number or the name again is taken for what had it before. Reserve it again",
    "": "Undo it, or add a second version of the message beside the first",
}


class BadArgument(Failure):
    """There is nothing to compare with under the name that was given."""


@dataclass(frozen=True)
class Problem:
    """One change that breaks something."""

    place: str
    """File and, if it is known, line."""
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}. {self.advice}."


@dataclass(frozen=True)
class Event:
    """A message with the option."""

    file: str
    message: str
    option: dict

    @property
    def simple(self) -> str:
        return self.message.rsplit(".", 1)[-1]

    @property
    def column(self) -> str:
        return self.option.get("column") or snake_case(self.simple)

    @property
    def time(self) -> str | None:
        return self.option.get("eventTime")


def run(against: str) -> int:
    """Compares `proto/` with a git ref, a folder or the last release. 1 if something breaks, 2 for a bad argument."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            old = Path(scratch) / "proto"
            if not against:
                release = last_release(ROOT)
                if release is None:
                    print("proto/ was not compared: no release (tag v…) leads to this commit, or the clone is shallow.")
                    return 0
                against = release
                checkout(ROOT, release, old)
            elif Path(against).is_dir():
                old = Path(against)
                if not (old / "landfall" / "options.proto").is_file():
                    raise BadArgument(
                        f"The folder {against} has no landfall/options.proto, which every proto/ has: name a folder "
                        "like proto/, or a git ref like v0.1.0."
                    )
            else:
                checkout(ROOT, against, old)
            found = problems(old, PROTO, against)
    except BadArgument as wrong:
        print(wrong, file=sys.stderr)
        return 2
    for problem in found:
        print(problem)
    if found:
        print(f"\n{_counted(len(found))} since {against}.")
        return 1
    print(f"proto/ breaks nothing since {against}.")
    return 0


def _counted(problems: int) -> str:
    return "1 change breaks readers or producers" if problems == 1 else f"{problems} changes break readers or producers"


def last_release(repository: Path) -> str | None:
    """The newest tag `v…` among the ancestors of the commit that is checked out."""
    if shutil.which("git") is None:
        return None
    done = _git(repository, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    return done.stdout.decode().strip() if done.returncode == 0 else None


def checkout(repository: Path, ref: str, folder: Path) -> None:
    """Puts `proto/` of a commit into a folder of that name."""
    if shutil.which("git") is None:
        raise BadArgument(
            f"{ref} is no folder, and there is no git on the PATH to look it up: name a folder like proto/."
        )
    if _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").returncode != 0:
        raise BadArgument(
            f"{ref} is neither a folder nor a commit that git knows here: `git tag` lists the releases, and a shallow "
            "clone gets the rest with `git fetch --unshallow --tags`."
        )
    archive = folder.parent / "proto.zip"
    if _git(repository, "archive", "--format=zip", f"--output={archive}", ref, "proto").returncode != 0:
        raise BadArgument(f"{ref} has no proto/: name a later commit.")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder.parent)


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(repository), *arguments], check=False, capture_output=True)


def ensure() -> None:
    """Installs buf, when it is missing."""
    environment.ensure(BUF_VENV, BUF_REQUIREMENTS, "Installing buf, which checks proto/", "--no-deps")


def problems(old: Path, new: Path, name: str = "the other folder") -> list[Problem]:
    """Every change from one `proto/` to another that breaks something. `name` is what a user calls the old one."""
    ensure()
    with tempfile.TemporaryDirectory() as scratch:
        # buf looks for its settings in the folders above, and would read others for a folder that is somewhere else.
        before, after = Path(scratch) / "before", Path(scratch) / "after"
        for workspace, proto in ((before, old), (after, new)):
            for file in proto.rglob("*.proto"):
                copy = workspace / "proto" / file.relative_to(proto)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
            shutil.copy(BUF_CONFIG, workspace)
        try:
            old_files = _compiled(before)
        except Failure as failure:
            raise BadArgument(f"The .proto files of {name} cannot be compiled:\n{failure}") from None
        new_files = _compiled(after)
        was, now = _events(old_files), _events(new_files)
        renamed = {message for message in was.keys() & now.keys() if was[message].column != now[message].column}
        return [
            *_of_buf(before, after, old_files),
            *_of_options(was, now, new_files),
            *_of_columns(was, now, renamed),
            *_of_order(_lines(old), _lines(new), renamed),
        ]


def _compiled(workspace: Path) -> list[dict]:
    """The descriptors of the files in `proto/`, as JSON."""
    done = _buf(workspace, "build", "-o", "-#format=json")
    if done.returncode != 0:
        raise Failure(done.stderr.decode().strip() or done.stdout.decode().strip())
    return [file for file in json.loads(done.stdout)["file"] if not file.get("bufExtension", {}).get("isImport")]


def _buf(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([BUF, *arguments], check=False, capture_output=True, cwd=workspace)


def _of_buf(before: Path, after: Path, old_files: Sequence[dict]) -> Iterator[Problem]:
    """What buf finds."""
    done = _buf(after, "breaking", "--against", str(before), "--error-format", "json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0 and not found:
        raise Failure(f"buf cannot compare proto/:\n{done.stderr.decode().strip()}")
    subject = re.compile(r'Previously present .* "(.+)" was deleted from package "(.*)"')
    files = {full: f"proto/{file['name']}" for file in old_files for full, _ in _messages(file, enums=True)}
    broken = {(each.get("path"), each["start_line"], each["type"]) for each in found}
    for each in found:
        if (each.get("path"), each["start_line"], FOLLOWS_FROM.get(each["type"])) in broken:
            continue
        if path := each.get("path"):
            place = f"{path}:{each['start_line']}"
        else:
            match = subject.match(each["message"])
            place = files.get(f"{match[2]}.{match[1]}", "proto/") if match else "proto/"
        advice = next(text for rule, text in ADVICE.items() if each["type"].startswith(rule))
        yield Problem(place, each["message"].rstrip("."), advice)


def _messages(scope: dict, above: str | None = None, enums: bool = False) -> Iterator[tuple[str, dict]]:
    """Full names and descriptors of all messages of a file, also of nested ones, and of enums if asked for."""
    above = scope.get("package", "") if above is None else above
    for message in [*scope.get("messageType", []), *scope.get("nestedType", [])]:
        full = f"{above}.{message['name']}".lstrip(".")
        yield full, message
        yield from _messages(message, full, enums)
    for enum in scope.get("enumType", []) if enums else []:
        yield f"{above}.{enum['name']}".lstrip("."), enum


def _events(files: Sequence[dict]) -> dict[str, Event]:
    """The events by the full names of their messages."""
    return {
        full: Event(f"proto/{file['name']}", full, message["options"][OPTION])
        for file in files
        for full, message in _messages(file)
        if OPTION in message.get("options", {})
    }


def _of_options(old: Mapping[str, Event], new: Mapping[str, Event], new_files: Sequence[dict]) -> Iterator[Problem]:
    """Changes of what the option says of an event, but for its column. A message that is gone is buf's to find."""
    there = {full: f"proto/{file['name']}" for file in new_files for full, _ in _messages(file)}
    old_names, new_names = names(old.values()), names(new.values())
    for message, was in old.items():
        now = new.get(message)
        if now is None:
            if message in there:
                yield Problem(
                    there[message],
                    f'Message "{message}" is not an event type any more',
                    f"Its events would land without columns. {PUT_OPTION_BACK}",
                )
            continue
        for name, reader in old_names.items():
            if reader != message or new_names.get(name) == message:
                continue
            fate = f"be read as {new_names[name]}" if name in new_names else "land without columns"
            yield Problem(
                now.file,
                f'Message "{message}" does not take events of the type "{name}" any more',
                f'They would {fate}: write also: "{name}" into its option (landfall.event)',
            )
        if was.time and was.time != now.time:
            yield Problem(
                now.file,
                f'Message "{message}" changed its event_time from "{was.time}" to "{now.time or ""}"',
                f'Events would land on other days: write event_time: "{was.time}" into its option (landfall.event)',
            )


def _of_columns(old: Mapping[str, Event], new: Mapping[str, Event], renamed: set[str]) -> Iterator[Problem]:
    """Columns whose option gives them another name."""
    for message in sorted(renamed):
        was, now = old[message].column, new[message].column
        yield Problem(
            new[message].file,
            f'Message "{message}" changed its column from "{was}" to "{now}"',
            f'Files have the old name: write column: "{was}" into its option (landfall.event)',
        )


def names(events: Collection[Event]) -> dict[str, str]:
    """Every value of the attribute `type`, with the full name of its message: as in `shared/src/event/registry.rs`."""
    found = {}
    for event in events:
        versions = sum(other.simple == event.simple for other in events)
        simple = [event.simple] if versions == 1 or not event.option.get("column") else []
        found.update(dict.fromkeys([event.message, *simple, *event.option.get("also", [])], event.message))
    return found


def snake_case(name: str) -> str:
    """`OrderCreated` → `order_created`, `HTTPRequestSeen` → `http_request_seen`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _lines(proto: Path) -> list[tuple[int, str]]:
    """The lines of `columns.txt` with their numbers, without comments and blanks. The first versions had none."""
    order = proto / "columns.txt"
    lines = order.read_text().splitlines() if order.is_file() else []
    words = [(number, " ".join(line.split())) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in words if line and not line.startswith("#")]


def _of_order(old: list[tuple[int, str]], new: list[tuple[int, str]], renamed: set[str]) -> Iterator[Problem]:
    """The first line of the old order that is not where it was, since all lines after it have moved as well."""
    for (_, was), found in zip_longest(old, new[: len(old)]):
        number, now = found or (None, None)
        (_, _, message), (_, _, same) = was.partition(" "), (now or "").partition(" ")
        if was == now or (message == same and message in renamed):
            continue
        yield Problem(
            f"proto/columns.txt:{number}" if number else "proto/columns.txt",
            f'"{was}" is not where it was' + (f', and "{now}" is there' if now else ""),
            "Warehouses that load by position count on the order: put it back, and append new lines at the end",
        )
        return
