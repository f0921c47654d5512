"""Changes of a small `proto/`, and which of them break something. `make test` runs them, since they need buf."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from local import breaking
from local.paths import PROTO, ROOT
from local.progress import Failure

OPTIONS = (PROTO / "landfall" / "options.proto").read_text()
SHOP = """syntax = "proto3";

package shop.v1;

import "landfall/options.proto";

enum Size {
  SIZE_UNSPECIFIED = 0;
  SIZE_SMALL = 1;
}

message Ordered {
  option (landfall.event) = {also: "OrderPlaced"};

  string sku = 1;
  int32 quantity = 2;
  Size size = 3;
}

message Returned {
  option (landfall.event) = {column: "returns"};

  string sku = 1;
}

message Cancelled {
  option (landfall.event) = {};

  string reason = 1;
}
"""
SHOP_V2 = """syntax = "proto3";

package shop.v2;

import "landfall/options.proto";

message Ordered {
  option (landfall.event) = {column: "ordered_v2"};

  string sku = 1;
}
"""
COLUMNS = "# The order.\nordered shop.v1.Ordered\nreturns shop.v1.Returned\ncancelled shop.v1.Cancelled\n"
# What somebody has configured has no say.
QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
UNREACHED = """
message Request {
  string q = 1;
}

enum Answer {
  ANSWER_UNSPECIFIED = 0;
}
"""
ADMIN = 'syntax = "proto3";\n\npackage admin.v1;\n\nmessage Login {}\n'
RETURNED = SHOP[SHOP.index("message Returned") : SHOP.index("message Cancelled")]


class Changes(unittest.TestCase):
    """One change each."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def write(self, name: str, shop: str = SHOP, columns: str | None = COLUMNS, **more: str) -> Path:
        """A `proto/`. `more` are other files, by their names without the ending."""
        folder = self.scratch / name
        files = {"landfall/options": OPTIONS, "shop/v1/shop": shop, **more}
        for file, text in files.items():
            path = folder / f"{file}.proto"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if columns is not None:
            (folder / "columns.txt").write_text(columns)
        return folder

    def problems(self, old: Path, new: Path) -> list[str]:
        return list(map(str, breaking.compare(old, new).problems))

    def refuses(self, new: Path, *expected: str) -> None:
        """A `proto/` that does not build, so that nothing is compared. `expected` are parts of what is said of it."""
        with self.assertRaises(Failure) as refused:
            breaking.compare(self.write("old"), new)
        for part in expected:
            self.assertIn(part, str(refused.exception))

    def breaks(self, old: str, new: str, *expected: str, columns: str = COLUMNS) -> None:
        """Replaces `old` in the shop by `new`, which breaks what is expected: parts of one line each."""
        self.assertIn(old, SHOP)
        lines = self.problems(self.write("old"), self.write("new", SHOP.replace(old, new), columns))
        self.assertEqual(len(lines), len(expected), lines)
        for line, part in zip(lines, expected, strict=True):
            self.assertIn(part, line)
            self.assertRegex(line, r"^proto/[a-z0-9_/]+\.(proto|txt)(:\d+)?: [^\n]+\.$")

    def breaks_nothing(self, new: Path) -> None:
        self.assertEqual(self.problems(self.write("old"), new), [])

    def test_nothing_changed(self) -> None:
        self.breaks_nothing(self.write("new"))

    def test_an_event_type_is_added(self) -> None:
        message = "message Paid {\n  option (landfall.event) = {};\n  string id = 1;\n}\n"
        self.breaks_nothing(self.write("new", SHOP + message, COLUMNS + "\n# New.\npaid shop.v1.Paid\n"))

    def test_a_field_is_added(self) -> None:
        self.breaks("  Size size = 3;", "  Size size = 3;\n  string note = 4;")

    def test_an_enum_value_is_added(self) -> None:
        self.breaks("  SIZE_SMALL = 1;", "  SIZE_SMALL = 1;\n  SIZE_LARGE = 2;")

    def test_a_name_is_added_to_also(self) -> None:
        self.breaks('{also: "OrderPlaced"}', '{also: "OrderPlaced", also: "OrderTaken"}')

    def test_everything_is_deprecated(self) -> None:
        shop = SHOP.replace("SIZE_SMALL = 1;", "SIZE_SMALL = 1 [deprecated = true];")
        shop = shop.replace("quantity = 2;", "quantity = 2 [deprecated = true];")
        self.breaks_nothing(self.write("new", shop.replace("  option (l", "  option deprecated = true;\n  option (l")))

    def test_a_second_version_stands_beside_the_first(self) -> None:
        columns = COLUMNS + "ordered_v2 shop.v2.Ordered\n"
        self.breaks_nothing(self.write("new", columns=columns, **{"shop/v2/shop": SHOP_V2}))

    def test_a_message_moves_to_another_file_of_its_package(self) -> None:
        head = SHOP[: SHOP.index("enum")]
        self.breaks_nothing(self.write("new", SHOP.replace(RETURNED, ""), **{"shop/v1/returned": head + RETURNED}))

    def test_code_is_generated_into_another_package(self) -> None:
        self.breaks("package shop.v1;", 'package shop.v1;\n\noption java_package = "com.example.shop";')

    def test_a_field_is_renamed(self) -> None:
        self.breaks("int32 quantity", "int32 pieces", 'changed name from "quantity" to "pieces"')

    def test_the_json_name_of_a_field_changes(self) -> None:
        self.breaks("quantity = 2;", 'quantity = 2 [json_name = "qty"];', "json_name")

    def test_a_field_gets_another_type(self) -> None:
        self.breaks("int32 quantity", "int64 quantity", 'changed type from "int32" to "int64"')

    def test_a_field_becomes_optional(self) -> None:
        self.breaks("int32 quantity", "optional int32 quantity", "changed cardinality")

    def test_a_field_is_removed(self) -> None:
        self.breaks("  int32 quantity = 2;\n", "", '"quantity" on message "Ordered" was deleted')

    def test_a_field_is_removed_and_reserved(self) -> None:
        self.breaks(
            "int32 quantity = 2;", 'reserved 2;\n  reserved "quantity";', '"quantity" on message "Ordered" was deleted'
        )

    def test_a_field_gets_another_number(self) -> None:
        self.breaks("quantity = 2;", "quantity = 4;", 'Previously present field "2"')

    def test_an_enum_value_is_renamed(self) -> None:
        self.breaks("SIZE_SMALL", "SIZE_LITTLE", 'changed name from "SIZE_SMALL" to "SIZE_LITTLE"')

    def test_an_enum_value_is_removed(self) -> None:
        self.breaks("  SIZE_SMALL = 1;\n", "", 'enum value "1" on enum "Size" was deleted')

    def test_an_event_type_is_removed(self) -> None:
        columns = COLUMNS.replace("returns shop.v1.Returned\n", "")
        expected = ('message "Returned" was deleted', '"returns shop.v1.Returned" is not where it was')
        self.breaks(RETURNED, "", *expected, columns=columns)

    def test_the_last_event_type_is_removed(self) -> None:
        cancelled = SHOP[SHOP.index("message Cancelled") :]
        columns = COLUMNS.replace("cancelled shop.v1.Cancelled\n", "")
        self.breaks(cancelled, "", 'message "Cancelled" was deleted', "cancelled", columns=columns)

    def test_a_package_is_removed(self) -> None:
        columns = COLUMNS + "ordered_v2 shop.v2.Ordered\n"
        old = self.write("old", columns=columns, **{"shop/v2/shop": SHOP_V2})
        lines = self.problems(old, self.write("new", columns=columns))
        self.assertEqual(len(lines), 1, lines)
        self.assertIn('package "shop.v2" was deleted', lines[0])

    def test_a_column_is_renamed_and_said_once(self) -> None:
        expected = 'changed its column from "returns" to "returned_goods"'
        columns = COLUMNS.replace("returns ", "returned_goods ")
        self.breaks('"returns"', '"returned_goods"', expected, columns=columns)

    def test_a_column_loses_its_own_name(self) -> None:
        self.breaks('{column: "returns"}', "{}", 'changed its column from "returns" to "returned"')

    def test_a_column_is_given_the_name_that_it_has(self) -> None:
        self.breaks('{also: "OrderPlaced"}', '{also: "OrderPlaced", column: "ordered"}')

    def test_a_name_is_removed_from_also(self) -> None:
        self.breaks(
            '{also: "OrderPlaced"}', "{}", 'does not take events of the type "OrderPlaced" any more. They would land'
        )

    def test_a_name_moves_to_another_event_type(self) -> None:
        shop = SHOP.replace('{also: "OrderPlaced"}', "{}").replace('"returns"', '"returns", also: "OrderPlaced"')
        lines = self.problems(self.write("old"), self.write("new", shop))
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("be read as shop.v1.Returned", lines[0])

    def test_a_second_version_takes_the_simple_name_of_a_first_that_names_its_column(self) -> None:
        second = SHOP_V2.replace("Ordered", "Returned").replace("ordered_v2", "returns_v2")
        columns = COLUMNS + "returns_v2 shop.v2.Returned\n"
        lines = self.problems(self.write("old"), self.write("new", columns=columns, **{"shop/v2/shop": second}))
        self.assertEqual(len(lines), 1, lines)
        self.assertIn('does not take events of the type "Returned" any more', lines[0])

    def test_a_message_is_no_event_type_any_more(self) -> None:
        option = "  option (landfall.event) = {};\n"
        expected = ("is not an event type any more", "cancelled shop.v1.Cancelled")
        self.breaks(option, "", *expected, columns=COLUMNS.replace("cancelled shop.v1.Cancelled\n", ""))

    def test_the_lines_of_columns_are_reordered(self) -> None:
        lines = COLUMNS.splitlines(keepends=True)
        columns = "".join([lines[0], lines[2], lines[1], lines[3]])
        self.breaks("shop", "shop", "proto/columns.txt:2: ", columns=columns)

    def test_a_column_is_renamed_in_the_order_only(self) -> None:
        self.breaks("shop", "shop", '"goods shop.v1.Returned" is there', columns=COLUMNS.replace("returns ", "goods "))

    def test_a_line_of_columns_is_put_in_front(self) -> None:
        self.breaks(
            "message Returned",
            "message First {\n  option (landfall.event) = {};\n}\n\nmessage Returned",
            '"ordered shop.v1.Ordered" is not where it was',
            columns=f"first shop.v1.First\n{COLUMNS}",
        )

    def test_columns_that_the_build_refuses_are_not_compared(self) -> None:
        paid = "message Paid {\n  option (landfall.event) = {};\n}\n"
        theirs = f"<<<<<<< HEAD\n{COLUMNS}=======\npaid shop.v1.Paid\n>>>>>>> paid\n"
        ordered = "ordered shop.v1.Ordered"
        for columns, *expected in (
            (COLUMNS, "no line for event types that are new. Append:\npaid shop.v1.Paid"),
            (theirs, 'columns.txt:1: "<<<<<<< HEAD" is left of a merge', 'columns.txt:6: "======="'),
            (f"{COLUMNS}paid shop.v1.Paid\n{ordered}\n", f'columns.txt:6: "{ordered}" repeats'),
            (f"{COLUMNS}paid\tshop.v1.Paid\n", 'columns.txt:5: "paid\\tshop.v1.Paid" is not a column and'),
            (f"{COLUMNS}paid shop.v1.Paid\nbilled shop.v1.Billed\n", "columns.txt:6: shop.v1.Billed is not an event"),
        ):
            self.refuses(self.write("new", SHOP + paid, columns), *expected)

    def test_columns_are_read_as_the_build_reads_them(self) -> None:
        new = self.write("new", columns=None)
        (new / "columns.txt").write_bytes(b"\xef\xbb\xbf" + COLUMNS.replace(" ", "   ").replace("\n", "\r\n").encode())
        self.breaks_nothing(new)
        (new / "columns.txt").write_bytes("# Größe\n".encode("latin-1"))
        self.refuses(new, "columns.txt of proto/ is not UTF-8 from byte 4 on: save it as UTF-8.")

    def test_comments_and_blanks_of_columns_do_not_count(self) -> None:
        self.breaks_nothing(self.write("new", columns="\n" + COLUMNS.replace("# The order.", "# Appended only.\n")))

    def test_the_order_of_columns_is_new(self) -> None:
        old, new = self.write("old", columns=None), self.write("new")
        lines = [*reversed(COLUMNS.splitlines(keepends=True))]
        for each in (new, self.write("reversed", columns="".join(lines))):
            found = breaking.compare(old, each, "v0.1.0")
            self.assertEqual(found.problems, [])
            self.assertEqual(found.notes, ["v0.1.0 has no columns.txt, so the order of columns was not compared."])

    def test_events_get_another_time(self) -> None:
        def timed(name: str, time: str) -> Path:
            shop = SHOP.replace('"OrderPlaced"', f'"OrderPlaced"{time}')
            return self.write(name, shop)

        old = timed("old", ', event_time: "ordered_at"')
        for new in (timed("other", ', event_time: "sent_at"'), timed("removed", "")):
            lines = self.problems(old, new)
            self.assertEqual(len(lines), 1, lines)
            self.assertIn('changed its event_time from "ordered_at"', lines[0])
        found = breaking.compare(timed("without", ""), old)
        self.assertEqual((found.problems, len(found.notes)), ([], 1))
        self.assertIn('"shop.v1.Ordered" got event_time: "ordered_at"', found.notes[0])

    def test_a_number_has_another_name_first(self) -> None:
        small = "  SIZE_SMALL = 1;"
        alias = f"  option allow_alias = true;\n  SIZE_UNSPECIFIED = 0;\n{small}"
        behind = SHOP.replace(f"  SIZE_UNSPECIFIED = 0;\n{small}", f"{alias}\n  SIZE_TINY = 1;")
        self.breaks_nothing(self.write("new", behind))
        expected = 'proto/shop/v1/shop.proto: Enum "shop.v1.Size" has "SIZE_TINY" in front of "SIZE_SMALL" for 1'
        for old in (self.write("old"), self.write("behind", behind)):
            before = behind.replace(f"{small}\n  SIZE_TINY = 1;", f"  SIZE_TINY = 1;\n{small}")
            lines = self.problems(old, self.write("new", before))
            self.assertEqual(len(lines), 1, lines)
            self.assertIn(expected, lines[0])
            self.assertIn("put the new alias behind it", lines[0])

    def test_what_no_event_reaches_may_change_and_go(self) -> None:
        old = self.write("old", SHOP + UNREACHED, **{"admin/v1/admin": ADMIN})
        changed = self.write("changed", SHOP + UNREACHED.replace("string q = 1", "int32 q = 2"))
        for new in (changed, self.write("gone")):
            self.assertEqual(self.problems(old, new), [])

    def test_any_reaches_everything(self) -> None:
        any_of_it = SHOP.replace("string reason", "google.protobuf.Any reason")
        any_of_it = any_of_it.replace("import", 'import "google/protobuf/any.proto";\nimport', 1)
        lines = self.problems(self.write("old", any_of_it + UNREACHED), self.write("new", any_of_it))
        self.assertEqual(len(lines), 2, lines)
        self.assertIn('message "Request" was deleted', "".join(lines))

    def test_what_an_event_reaches_through_other_messages_does_not_go(self) -> None:
        nested = SHOP.replace("string reason", "map<string, Why> reason")
        why = "message Why {\n  message Part {\n    Mood mood = 1;\n  }\n  repeated Part parts = 1;\n}\n"
        why += "enum Mood {\n  MOOD_UNSPECIFIED = 0;\n  MOOD_BAD = 1;\n}\n"
        old, new = nested + why, nested + why.replace("  MOOD_BAD = 1;\n", "")
        lines = self.problems(self.write("old", old), self.write("new", new))
        self.assertEqual(len(lines), 1, lines)
        self.assertIn('enum value "1" on enum "Mood" was deleted', lines[0])

    def test_a_oneof_is_renamed(self) -> None:
        oneof = SHOP.replace("  string reason = 1;", "  oneof why {\n    string reason = 1;\n    int32 code = 2;\n  }")
        old = self.write("old", oneof)
        self.assertEqual(self.problems(old, self.write("new", oneof.replace("oneof why", "oneof cause"))), [])
        out = oneof.replace("oneof why", "oneof cause").replace("    int32 code = 2;\n  }", "  }\n  int32 code = 2;")
        self.assertIn("oneof", "".join(self.problems(old, self.write("out", out))))

    def test_a_file_gets_an_edition(self) -> None:
        implicit = 'edition = "2023";\n\noption features.field_presence = IMPLICIT;'
        self.breaks('syntax = "proto3";', implicit, "the build reads proto2 and proto3, but no editions: undo it")


class Names(unittest.TestCase):
    """What `shared/src/event/registry.rs` does, too."""

    def test_names_are_columns_in_snake_case(self) -> None:
        for name, column in {
            "OrderCreated": "order_created",
            "HTTPRequestSeen": "http_request_seen",
            "A1B": "a1_b",
        }.items():
            self.assertEqual(breaking.snake_case(name), column)


@unittest.skipUnless(shutil.which("git"), "there is no git on the PATH")
class Arguments(unittest.TestCase):
    """What it is compared with, and the exit code."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def check(self, against: str | Path, **environment: str) -> tuple[int, str]:
        argv = [sys.executable, "-m", "local", "proto-check", str(against)]
        variables = {**os.environ, **environment}
        done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True, env=variables)
        return done.returncode, done.stdout + done.stderr

    def test_the_exit_code_says_whether_something_breaks(self) -> None:
        same, more = self.scratch / "same", self.scratch / "more"
        for folder in (same, more):
            shutil.copytree(PROTO, folder)
        self.assertEqual(self.check(same), (0, f"proto/ breaks nothing since {same}.\n"))
        event = 'import "landfall/options.proto";\nmessage More {\n  option (landfall.event) = {};\n}\n'
        (more / "more.proto").write_text(f'syntax = "proto3";\npackage more;\n{event}')
        code, printed = self.check(more)
        self.assertEqual(code, 1)
        self.assertIn('package "more" was deleted', printed)
        self.assertIn("1 change breaks readers or producers", printed)

    def test_a_bad_argument_is_explained(self) -> None:
        broken = self.scratch / "broken"
        shutil.copytree(PROTO, broken)
        (broken / "landfall" / "broken.proto").write_text("message {")
        cases = {
            "no-such-ref": "neither a folder nor a commit",
            self.scratch: "options.proto",
            broken: "broken.proto:1",
        }
        for against, part in cases.items():
            code, printed = self.check(against)
            self.assertEqual(code, 2, printed)
            self.assertIn(part, printed)

    def test_a_tree_of_ones_own_that_does_not_compile_breaks_nothing_yet(self) -> None:
        broken = self.scratch / "proto"
        shutil.copytree(PROTO, broken)
        (broken / "landfall" / "broken.proto").write_text("message {")
        said = io.StringIO()
        with mock.patch.object(breaking, "PROTO", broken), contextlib.redirect_stderr(said):
            self.assertEqual(breaking.run(str(PROTO)), 2)
        self.assertIn("The .proto files of proto/ cannot be compiled", said.getvalue())

    def test_a_repository_that_git_refuses_has_not_no_release(self) -> None:
        if not (ROOT / ".git").exists():
            self.skipTest("this is no git repository")
        for against in ("", "v0.1.0"):
            code, printed = self.check(against, GIT_TEST_ASSUME_DIFFERENT_OWNER="1", **QUIET)
            self.assertEqual(code, 2, printed)
            self.assertIn("dubious ownership", printed)

    def test_make_passes_the_argument_on_as_it_is(self) -> None:
        if shutil.which("make") is None:
            self.skipTest("there is no make on the PATH")
        ran = self.scratch / "ran"
        against = f'AGAINST=v0"; touch {ran}; "`touch {ran}`$$(touch {ran})'
        argv = ["make", "--silent", "proto-check", f"PYTHON={sys.executable}", against]
        done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
        self.assertFalse(ran.exists())
        self.assertIn("is neither a folder nor a commit", done.stderr)

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        argv = ["git", "-C", str(self.scratch), *identity, *arguments]
        subprocess.run(argv, check=True, capture_output=True, env={**os.environ, **QUIET})

    def release(self, tag: str, folder: Path) -> None:
        """A commit with a `proto/` in a folder, and its tag."""
        proto = folder / "proto"
        (proto / "landfall").mkdir(parents=True, exist_ok=True)
        (proto / "landfall" / "options.proto").write_text(OPTIONS)
        (proto / "columns.txt").write_text(tag)
        self.git("add", ".")
        self.git("commit", f"--message={tag}")
        self.git("tag", tag)

    def no_release(self, repository: Path) -> str:
        with self.assertRaises(breaking.NoRelease) as nothing:
            breaking.last_release(repository)
        return str(nothing.exception)

    def test_the_last_release_is_the_newest_tag_of_an_ancestor(self) -> None:
        self.assertIn("no git repository", self.no_release(self.scratch))
        self.git("init", "--initial-branch=main")
        self.assertIn("no release", self.no_release(self.scratch))
        self.git("commit", "--allow-empty", "--message=without proto/")
        self.assertIn("no release", self.no_release(self.scratch))
        for release in ("v0.9.0", "v0.10.0", "other", "vendored"):
            self.release(release, self.scratch)
        self.git("checkout", "-b", "side", "v0.9.0")
        self.git("commit", "--allow-empty", "--message=side")
        self.git("tag", "v0.11.0")
        self.git("checkout", "main")
        self.assertEqual(breaking.last_release(self.scratch), ("v0.10.0", []))
        folder = self.scratch / "out" / "proto"
        folder.parent.mkdir()
        breaking.checkout(self.scratch, "v0.9.0", folder)
        self.assertEqual((folder / "columns.txt").read_text(), "v0.9.0")
        for ref in ("v0.9.0~1", "v7", "--help"):
            with self.assertRaises(breaking.BadArgument):
                breaking.checkout(self.scratch, ref, folder)

    def test_releases_of_other_products_are_passed_over(self) -> None:
        landfall = self.scratch / "landfall"
        self.git("init", "--initial-branch=main")
        self.git("commit", "--allow-empty", "--message=other")
        self.git("tag", "v4.0.0")
        landfall.mkdir()
        self.assertIn("has proto/landfall/options.proto", self.no_release(landfall))
        self.release("v0.1.0", landfall)
        self.git("rm", "-r", "--quiet", "landfall")
        self.git("commit", "--message=a branch of another product")
        self.git("tag", "v5.0.0")
        landfall.mkdir(exist_ok=True)
        self.assertEqual(breaking.last_release(landfall), ("v0.1.0", ["v5.0.0"]))
        folder = self.scratch / "out" / "proto"
        folder.parent.mkdir()
        breaking.checkout(landfall, "v0.1.0", folder)
        self.assertEqual((folder / "columns.txt").read_text(), "v0.1.0")
        with self.assertRaises(breaking.BadArgument):
            breaking.checkout(landfall, "v5.0.0", folder)

    def test_a_shallow_clone_compares_nothing_and_fails_in_ci(self) -> None:
        origin, shallow = self.scratch, self.scratch / "clone"
        self.git("init", "--initial-branch=main")
        self.release("v0.1.0", origin)
        self.git("commit", "--allow-empty", "--message=later")
        self.git("clone", "--depth=1", origin.as_uri(), str(shallow))
        with mock.patch.dict(os.environ, {"CI": ""}):
            self.assertIn("git fetch --unshallow --tags", self.no_release(shallow))
        with mock.patch.dict(os.environ, {"CI": "true"}), self.assertRaises(Failure) as refused:
            breaking.last_release(shallow)
        self.assertNotIsInstance(refused.exception, breaking.NoRelease)
        self.assertIn("fetch-depth: 0", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
