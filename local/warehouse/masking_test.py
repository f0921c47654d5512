"""Which columns look personal, and which class a column has. `python3 -m local warehouse test` runs it."""

import unittest

import duckdb

from local.warehouse.masking import Model, class_of, kind_of, personal


class Content(unittest.TestCase):
    def test_what_a_value_holds_of_a_person_is_found(self) -> None:
        expected = {
            "write to Ana.Lee+shop@mail.example.org please": "an e-mail address",
            '{"context":{"user_ip":"198.51.100.23"}}': "an IP address",
            "from 2001:db8::8a2e:370:7334": "an IP address",
            "It came from 192.0.2.7.": "an IP address",
            "+49 (30) 1234-5678": "a phone number",
            "call 555-867-5309": "a phone number",
            "4111 1111 1111 1111": "a card number",
            "5500005555555559": "a card number",
            "3782-822463-10005": "a card number",
        }
        for text, kind in expected.items():
            self.assertEqual(kind_of(text), kind, text)

    def test_what_only_resembles_it_is_not(self) -> None:
        for text in (
            "",
            "a @ b",
            "2026-11-01 10:00:00.123456",
            "2026-11-01T10:00:00+00:00",
            "00000000000000000000000000000004111",
            "4111111111111112",
            "1795183906123",
            "events/2026/11/01/20261101T000000000Z-0.parquet",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "1.2.3",
            "999.1.1.1",
            "Größe & Maß = 100 % + 1",
        ):
            self.assertIsNone(kind_of(text), text)


class Columns(unittest.TestCase):
    def test_a_column_without_a_class_is_found_by_its_name_and_by_its_values(self) -> None:
        with duckdb.connect() as database:
            database.execute("create schema s")
            database.execute(
                "create table s.t as select 'x' as customer_email, 'see a@b.example' as note, '{\"ip\":\"192.0.2.7\"}'::json as data, "
                "'red' as colour, 4111111111111111 as amount, '\\xAA'::blob as bytes, null::varchar as nothing"
            )
            found = {column[2]: why for column, why in personal(database, set())}
            self.assertEqual(
                found,
                {
                    "customer_email": "its name",
                    "note": "it holds an e-mail address",
                    "data": "it holds an IP address",
                    "amount": "it holds a card number",
                },
            )
            known = {("s", "t", "customer_email"), ("s", "t", "note"), ("s", "t", "amount")}
            self.assertEqual([column[2] for column, _ in personal(database, known)], ["data"])


class Classes(unittest.TestCase):
    def test_a_column_has_the_class_of_what_its_model_is_made_from_unless_it_has_its_own(self) -> None:
        known = {
            "raw": Model("raw", "hits", {"client_id": "identifier", "address": "ip", "version": "none"}, [], False),
            "staged": Model("staging", "hits", {}, ["raw"], False),
            "mart": Model("marts", "visits", {"address": "none"}, ["other", "staged"], True),
        }
        found = {name: class_of(known, "mart", name) for name in ("client_id", "address", "version", "colour")}
        self.assertEqual(found, {"client_id": "identifier", "address": "none", "version": "none", "colour": None})


if __name__ == "__main__":
    unittest.main()
