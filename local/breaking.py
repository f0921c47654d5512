"""What a change of `proto/` breaks: readers of files that exist, or producers that go on sending.

buf compares messages, fields and enums, by the rules of `buf.yaml`, as far as an event reaches them. The rest is compared
here: the option of each event, the names of numbers that have several, and the order of the columns.

Only the standard library and buf, so that it needs nothing else of the private environments.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from local import environment
from local.paths import BUF_CONFIG, BUF_REQUIREMENTS, BUF_VENV, PROTO, ROOT
from local.progress import Failure

BUF = BUF_VENV / "bin" / "buf"
# Of `landfall/options.proto`, as buf writes it.
OPTION = "[landfall.event]"
# Holds a message of any type, so a message can be in it that no field names.
ANY = "google.protobuf.Any"
# Every `proto/` has it. A folder of that name in another product's release has not.
OPTIONS = "proto/landfall/options.proto"
# A line of `columns.txt`, as `shared/src/event/registry.rs` reads it.
LINE = re.compile(r"([a-z][a-z0-9_]*) ([A-Za-z_][A-Za-z0-9_.]*)")
CONFLICT = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")
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
    "FILE_SAME_SYNTAX": (
        "What a field without a value means depends on it, and the build reads proto2 and proto3, but no editions: "
        "undo it"
    ),
    "ENUM_VALUE_NO_DELETE": f"Files have its name as text, and producers send it. {PUT_BACK}",
    "PACKAGE_NO_DELETE": f"Files have columns of its messages, and producers send them. {PUT_MESSAGE_BACK}",
    "PACKAGE_": f"Files have its columns, and producers send it. {PUT_MESSAGE_BACK}",
    "RESERVED_": "What uses the number or the name again is taken for what had it before. Reserve it again",
    "": "Undo it, or add a second version of the message beside the first",
}


class BadArgument(Failure):
    """There is nothing to compare with under the name that was given."""


class NoRelease(Failure):
    """Nothing was released that could be compared with."""


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


@dataclass(frozen=True)
class Comparison:
    """What two versions of `proto/` differ in."""

    problems: list[Problem]
    notes: list[str]
    """What breaks nothing, but should be known."""


def run(against: str) -> int:
    """Compares `proto/` with a git ref, a folder or the last release. 1 if something breaks, 2 if it cannot be said."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            old = Path(scratch) / "proto"
            if not against:
                against, passed_over = last_release(ROOT)
                for tag in passed_over:
                    print(f"{tag} has no {OPTIONS}, so an older release is compared.")
                checkout(ROOT, f"refs/tags/{against}", old)
            elif Path(against).is_dir():
                old = Path(against)
                if not (old / "landfall" / "options.proto").is_file():
                    raise BadArgument(
                        f"The folder {against} has no landfall/options.proto, which every proto/ has: name a folder "
                        "like proto/, or a git ref like v0.1.0."
                    )
            else:
                checkout(ROOT, against, old)
            found = compare(old, PROTO, against)
    except NoRelease as nothing:
        print(f"proto/ was not compared: {nothing}")
        return 0
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 2
    for problem in found.problems:
        print(problem)
    if found.problems:
        print()
    for note in found.notes:
        print(f"Note: {note}")
    if found.problems:
        print(f"{_counted(len(found.problems))} since {against}.")
        return 1
    print(f"proto/ breaks nothing since {against}.")
    return 0


def _counted(problems: int) -> str:
    return "1 change breaks readers or producers" if problems == 1 else f"{problems} changes break readers or producers"


def last_release(repository: Path) -> tuple[str, list[str]]:
    """The nearest tag `v…` among the ancestors of the checked out commit, and nearer ones of other products."""
    if shutil.which("git") is None:
        raise NoRelease("there is no git on the PATH.")
    if not any((folder / ".git").exists() for folder in (repository, *repository.parents)):
        raise NoRelease("this is no git repository.")
    _check_repository(repository)
    passed_over: list[str] = []
    if _git(repository, "rev-parse", "--verify", "--quiet", "HEAD").returncode == 0:
        merged = _answer(repository, "for-each-ref", "--merged=HEAD", "--format=%(refname)", "refs/tags/v[0-9]*")
        for _ in merged.splitlines():
            others = [f"--exclude={tag}" for tag in passed_over]
            tag = _answer(repository, "describe", "--tags", "--abbrev=0", "--match=v[0-9]*", *others)
            if _has_proto(repository, f"refs/tags/{tag}"):
                return tag, passed_over
            passed_over.append(tag)
    if _answer(repository, "rev-parse", "--is-shallow-repository") == "true":
        shallow = "the clone is shallow and has no release (tag v…): git fetch --unshallow --tags gets the rest"
        if os.environ.get("CI"):
            raise Failure(f"proto/ was not compared, since {shallow}. With actions/checkout, set fetch-depth: 0.")
        raise NoRelease(f"{shallow}.")
    if passed_over:
        raise NoRelease(f"no release (tag v…) that leads to this commit has {OPTIONS}.")
    raise NoRelease("no release (tag v…) leads to this commit.")


def checkout(repository: Path, ref: str, folder: Path) -> None:
    """Puts `proto/` of a commit into a folder of that name."""
    if shutil.which("git") is None:
        raise BadArgument(
            f"{ref} is no folder, and there is no git on the PATH to look it up: name a folder like proto/."
        )
    _check_repository(repository)
    found = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found.returncode != 0:
        raise BadArgument(
            f"{ref} is neither a folder nor a commit that git knows here: `git tag` lists the releases, and a shallow "
            "clone gets the rest with `git fetch --unshallow --tags`."
        )
    commit = found.stdout.decode().strip()
    if not _has_proto(repository, commit):
        raise BadArgument(f"{ref} has no {OPTIONS}: name a later commit.")
    archive = folder.parent / "proto.zip"
    _answer(repository, "archive", "--format=zip", f"--output={archive}", commit, "proto")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder.parent)


def _has_proto(repository: Path, commit: str) -> bool:
    return _git(repository, "cat-file", "-e", f"{commit}:./{OPTIONS}").returncode == 0


def _check_repository(repository: Path) -> None:
    """git refuses a repository of another user, and one that is damaged. Neither means that there is no release."""
    _answer(repository, "rev-parse", "--git-dir")


def _answer(repository: Path, *arguments: str) -> str:
    """What git prints. If it fails, the failure has git's own words."""
    done = _git(repository, *arguments)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        raise Failure(f"proto/ was not compared, since git {arguments[0]} failed:\n{words}")
    return done.stdout.decode().strip()


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(repository), *arguments], check=False, capture_output=True)


def ensure() -> None:
    """Installs buf, when it is missing."""
    environment.ensure(BUF_VENV, BUF_REQUIREMENTS, "Installing buf, which checks proto/", "--no-deps")


def compare(old: Path, new: Path, name: str = "the other folder") -> Comparison:
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
            old_image = _compiled(before)
        except Failure as failure:
            raise BadArgument(f"The .proto files of {name} cannot be compiled:\n{failure}") from None
        try:
            new_image = _compiled(after)
        except Failure as failure:
            raise Failure(f"The .proto files of proto/ cannot be compiled:\n{failure}") from None
        old_files, new_files = _own(old_image), _own(new_image)
        was, now = _events(old_files), _events(new_files)
        renamed = {message for message in was.keys() & now.keys() if was[message].column != now[message].column}
        reached = _reached(old_image["file"], was)
        old_lines, new_lines = _lines(old, name), _lines(new, "proto/")
        _check_lines(new_lines, old_lines, was, now)
        found = [
            *_of_buf(_for_buf(before, old_image, new_image, [] if reached is None else sorted(was)), after, old_files),
            *_of_enums(old_files, new_files, reached),
            *_of_options(was, now, new_files),
            *_of_columns(was, now, renamed),
            *_of_order(old_lines, new_lines, renamed),
        ]
        return Comparison(found, [*_notes(was, now, old, name)])


def _notes(was: Mapping[str, Event], now: Mapping[str, Event], old: Path, name: str) -> Iterator[str]:
    if not (old / "columns.txt").is_file():
        yield f"{name} has no columns.txt, so the order of columns was not compared."
    for message, event in now.items():
        if message in was and event.time and not was[message].time:
            yield (
                f'Message "{message}" got event_time: "{event.time}". From now on its events land on the days of that '
                "field, and a batch that is delivered before and after the deployment on both days: deduplicate by event_id."
            )


def _compiled(workspace: Path) -> dict:
    """The descriptors of the files in `proto/` and of what they import, as buf writes them in JSON."""
    done = _buf(workspace, "build", "-o", "-#format=json")
    if done.returncode != 0:
        raise Failure(done.stderr.decode().strip() or done.stdout.decode().strip())
    return json.loads(done.stdout)


def _own(image: dict) -> list[dict]:
    return [file for file in image["file"] if not file.get("bufExtension", {}).get("isImport")]


def _reached(files: Iterable[dict], events: Iterable[str]) -> set[str] | None:
    """The full names of the messages and enums that events can have in them. `None` are all: `Any` takes each message."""
    fields = {
        full: [field.get("typeName", "").lstrip(".") for field in scope.get("field", [])]
        for file in files
        for full, scope in _messages(file, enums=True)
    }
    reached: set[str] = set()
    waiting = list(events)
    while waiting:
        if (full := waiting.pop()) and full not in reached:
            reached.add(full)
            waiting.extend(fields.get(full, []))
    return None if ANY in reached else reached


def _for_buf(before: Path, old: dict, new: dict, events: Sequence[str]) -> Path:
    """The old descriptors with the new names of oneofs, and only what these events reach: the rest is in no file."""
    new_messages = dict(pair for file in _own(new) for pair in _messages(file))
    for file in _own(old):
        for full, message in _messages(file):
            _rename_oneofs(message, new_messages.get(full, {}))
    everything, reached = before / "all.json", before / "reached.json"
    everything.write_text(json.dumps(old))
    if not events:
        return everything
    done = _buf(before, "build", str(everything), "-o", str(reached), *(f"--type={event}" for event in events))
    if done.returncode != 0:
        raise Failure(f"buf cannot read its own descriptors:\n{done.stderr.decode().strip()}")
    return reached


def _rename_oneofs(old: dict, new: dict) -> None:
    """Gives each oneof that has the same members the new name. The columns are those of its members."""
    was = _oneofs(old)
    names = {members: name for name, members in _oneofs(new).items()}
    taken = {field["name"] for field in old.get("field", [])}
    for declared in old.get("oneofDecl", []):
        name = names.get(was.get(declared["name"], frozenset()))
        if name is not None and name not in taken:
            declared["name"] = name


def _oneofs(message: dict) -> dict[str, frozenset[int]]:
    """The numbers of the fields in each oneof, but for those that only say that a field is optional."""
    members: dict[str, set[int]] = {}
    for field in message.get("field", []):
        if "oneofIndex" in field and not field.get("proto3Optional"):
            members.setdefault(message["oneofDecl"][field["oneofIndex"]]["name"], set()).add(field["number"])
    return {name: frozenset(numbers) for name, numbers in members.items()}


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


def _of_enums(old: Sequence[dict], new: Sequence[dict], reached: set[str] | None) -> Iterator[Problem]:
    """Numbers whose first name is another one, among names that buf only compares as a set. Files have the first."""
    new_enums = {full: (f"proto/{file['name']}", _names_by_number(enum)) for file in new for full, enum in _enums(file)}
    for full, enum in (pair for file in old for pair in _enums(file)):
        if full not in new_enums or (reached is not None and full not in reached):
            continue
        place, now = new_enums[full]
        for number, names in _names_by_number(enum).items():
            was = names[0]
            if was in now.get(number, [])[1:]:
                yield Problem(
                    place,
                    f'Enum "{full}" has "{now[number][0]}" in front of "{was}" for {number}',
                    f'Files have the first name as text, which was "{was}": put the new alias behind it',
                )


def _names_by_number(enum: dict) -> dict[int, list[str]]:
    """The names of each number, in the order in which they are declared."""
    names: dict[int, list[str]] = {}
    for value in enum.get("value", []):
        names.setdefault(value["number"], []).append(value["name"])
    return names


def _enums(file: dict) -> Iterator[tuple[str, dict]]:
    return ((full, scope) for full, scope in _messages(file, enums=True) if "value" in scope)


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


def _lines(proto: Path, name: str) -> list[tuple[int, str]]:
    """The lines of `columns.txt` with their numbers, without comments and blanks. The first versions had none."""
    order = proto / "columns.txt"
    try:
        # Some editors put a mark in front, which the build passes over, too.
        lines = order.read_text("utf-8-sig").split("\n") if order.is_file() else []
    except UnicodeDecodeError as error:
        raise Failure(f"columns.txt of {name} is not UTF-8 from byte {error.start} on: save it as UTF-8.") from None
    words = [(number, re.sub(" +", " ", line.strip())) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in words if line and not line.startswith("#")]


def _check_lines(
    lines: list[tuple[int, str]], old: list[tuple[int, str]], was: Mapping[str, Event], now: Mapping[str, Event]
) -> None:
    """Refuses what the build refuses, since no order can be compared with it. What is gone, the comparison finds."""
    wrong, seen = [], set()
    for number, line in lines:
        place = f"proto/columns.txt:{number}"
        match = LINE.fullmatch(line)
        text = json.dumps(line, ensure_ascii=False)
        if line.startswith(CONFLICT):
            wrong.append(f"{place}: {text} is left of a merge: keep the lines of both sides, those of main first.")
        elif not match:
            wrong.append(f"{place}: {text} is not a column and the full name of a message, separated by a space.")
        elif {match[1], match[2]} & seen:
            wrong.append(f"{place}: {text} repeats a column or a message of an earlier line: remove it.")
        elif match[2] not in now and match[2] not in was:
            wrong.append(f"{place}: {match[2]} is not an event type in proto/: remove the line.")
        if match:
            seen |= {match[1], match[2]}
    there = {line.rpartition(" ")[2] for _, line in [*lines, *old]}
    missing = sorted(f"{event.column} {message}" for message, event in now.items() if message not in there)
    if missing and lines:
        wrong.append("proto/columns.txt has no line for event types that are new. Append:\n" + "\n".join(missing))
    if wrong:
        raise Failure("\n".join([*wrong, "proto/ was not compared, since it does not build."]))


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
