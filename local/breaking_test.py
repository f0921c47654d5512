"""Changes of a small `proto/`, and which of them break something. `make test` runs them, since they need buf."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from local import breaking
from local.paths import PROTO, ROOT

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
        return list(map(str, breaking.problems(old, new)))

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
            "shop", "shop", '"ordered shop.v1.Ordered" is not where it was', columns=f"first shop.v1.First\n{COLUMNS}"
        )

    def test_comments_and_blanks_of_columns_do_not_count(self) -> None:
        self.breaks_nothing(self.write("new", columns="\n" + COLUMNS.replace("# The order.", "# Appended only.\n")))

    def test_the_order_of_columns_is_new(self) -> None:
        self.assertEqual(self.problems(self.write("old", columns=None), self.write("new")), [])

    def test_events_get_another_time(self) -> None:
        def timed(name: str, time: str) -> Path:
            shop = SHOP.replace('"OrderPlaced"', f'"OrderPlaced"{time}')
            return self.write(name, shop)

        old = timed("old", ', event_time: "ordered_at"')
        for new in (timed("other", ', event_time: "sent_at"'), timed("removed", "")):
            lines = self.problems(old, new)
            self.assertEqual(len(lines), 1, lines)
            self.assertIn('changed its event_time from "ordered_at"', lines[0])
        self.assertEqual(self.problems(timed("without", ""), old), [])


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

    def check(self, against: str | Path) -> tuple[int, str]:
        argv = [sys.executable, "-m", "local", "proto-check", str(against)]
        done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def test_the_exit_code_says_whether_something_breaks(self) -> None:
        same, more = self.scratch / "same", self.scratch / "more"
        for folder in (same, more):
            shutil.copytree(PROTO, folder)
        self.assertEqual(self.check(same), (0, f"proto/ breaks nothing since {same}.\n"))
        (more / "more.proto").write_text('syntax = "proto3";\npackage more;\nmessage More {}\n')
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

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        argv = ["git", "-C", str(self.scratch), *identity, *arguments]
        subprocess.run(argv, check=True, capture_output=True, env={**os.environ, **quiet})

    def test_the_last_release_is_the_newest_tag_of_an_ancestor(self) -> None:
        self.git("init", "--initial-branch=main")
        self.git("commit", "--allow-empty", "--message=without proto/")
        self.assertIsNone(breaking.last_release(self.scratch))
        for release in ("v0.9.0", "v0.10.0", "other", "vendored"):
            (self.scratch / "proto").mkdir(exist_ok=True)
            (self.scratch / "proto" / "columns.txt").write_text(release)
            self.git("add", ".")
            self.git("commit", f"--message={release}")
            self.git("tag", release)
        self.git("checkout", "-b", "side", "v0.9.0")
        self.git("commit", "--allow-empty", "--message=side")
        self.git("tag", "v0.11.0")
        self.git("checkout", "main")
        self.assertEqual(breaking.last_release(self.scratch), "v0.10.0")
        folder = self.scratch / "out" / "proto"
        folder.parent.mkdir()
        breaking.checkout(self.scratch, "v0.9.0", folder)
        self.assertEqual((folder / "columns.txt").read_text(), "v0.9.0")
        for ref in ("v0.9.0~1", "v7", "--help"):
            with self.assertRaises(breaking.BadArgument):
                breaking.checkout(self.scratch, ref, folder)


if __name__ == "__main__":
    unittest.main()
