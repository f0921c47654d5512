"""The job with Spark, S3 of the emulator and a registrar that enforces leases, on the files that load-ingester is tested with."""

import base64
import contextlib
import gzip
import io
import json
import re
import tempfile
import threading
import unittest
from datetime import date, datetime, time, timezone
from decimal import Decimal, localcontext
from functools import partial
from pathlib import Path
from unittest import mock

import boto3
import ingest
import pyarrow as pa
import pyarrow.parquet as pq
import registrar as registrar_client
import rules
from botocore.exceptions import ResponseStreamingError
from botocore.response import StreamingBody
from fake_registrar import Registrar
from pyspark.sql import SparkSession

GLUE = Path(__file__).parents[1]
TESTDATA = GLUE.parent / "functions" / "load-ingester" / "testdata"
SAMPLE = (TESTDATA / "EDW.SAMPLE" / "LOAD00000001.csv").read_bytes()
SAMPLE_DFM = (TESTDATA / "EDW.SAMPLE" / "LOAD00000001.dfm").read_bytes()
CHANGES = (TESTDATA / "EDW.SAMPLE__ct" / "20220102-204950406.csv").read_bytes()
CHANGES_DFM = (TESTDATA / "EDW.SAMPLE__ct" / "20220102-204950406.dfm").read_bytes()
INCOMING, UNVERSIONED, LAKE, KEY = (
    "glue-incoming",
    "glue-unversioned",
    "glue-lake",
    "cubic/ods_qlik/EDW.SAMPLE/LOAD1.csv",
)
PLACE = "springboard/cubic/ods_qlik/EDW.SAMPLE/snapshot=20220101T204020Z/"


def setUpModule() -> None:
    global spark, s3, registrar
    s3, registrar = boto3.client("s3"), Registrar()
    for bucket in (INCOMING, UNVERSIONED, LAKE):
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=INCOMING, VersioningConfiguration={"Status": "Enabled"})
    settings = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
    settings["spark.ui.showConsoleProgress"] = "false"
    spark = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    mock.patch.dict("os.environ", AWS_ENDPOINT_URL_LAMBDA=registrar.url).start()


def tearDownModule() -> None:
    spark.stop()
    for bucket in (INCOMING, UNVERSIONED, LAKE):
        boto3.resource("s3").Bucket(bucket).object_versions.delete()
        s3.delete_bucket(Bucket=bucket)


def declared(**columns: str) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in columns.items()]


def keys(prefix: str) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket=LAKE, Prefix=prefix).get("Contents", ())]


def read(key: str) -> bytes:
    return s3.get_object(Bucket=LAKE, Key=key)["Body"].read()


class Job(unittest.TestCase):
    def setUp(self) -> None:
        registrar.loads.clear()
        registrar.page, registrar.at = 1000, lambda command: None
        boto3.resource("s3").Bucket(LAKE).objects.all().delete()
        boto3.resource("s3").Bucket(INCOMING).object_versions.delete()

    def put(
        self, body: bytes, key: str = KEY, dfm: bytes | None = None, bucket: str = INCOMING, **members: object
    ) -> int:
        """Puts an object and registers it."""
        if dfm:
            s3.put_object(Bucket=bucket, Key=re.sub(r"\.csv(\.gz)?$", ".dfm", key), Body=dfm)
        put = s3.put_object(Bucket=bucket, Key=key, Body=body)
        kind = "ods" if dfm else "other"
        named = {
            "s3_key": key,
            "s3_size": len(body),
            "s3_etag": put["ETag"].strip('"'),
            "s3_version": put.get("VersionId"),
        }
        return registrar.register(**{"kind": kind, "s3_bucket": bucket, **named, **members})

    def run_job(self, *words: object) -> int:
        self.log = io.StringIO()
        common = [
            "--lake_bucket",
            LAKE,
            "--registrar_function",
            "landfall-load-registrar",
            "--JOB_NAME",
            "landfall-ingest",
        ]
        with contextlib.redirect_stdout(self.log), contextlib.redirect_stderr(self.log):
            return ingest.main([*common, *map(str, words)])

    def ingested(self, number: int, *words: object) -> pa.Table:
        """The rows of a load that the job has ingested, and nothing else is left."""
        self.assertEqual(self.run_job("--loads", number, *words), 0, self.log.getvalue())
        load = registrar.loads[number]
        self.assertEqual(load["status"], "ready_for_archiving", self.log.getvalue())
        files = sorted(keys(PLACE), key=lambda key: int(re.findall("[0-9]+", key)[-1]))
        self.assertEqual(files, [f"{PLACE}{number}-{part}.parquet" for part in range(load["result"]["files"])])
        self.assertEqual(keys("work/"), [])
        tables = [pq.read_table(io.BytesIO(read(key))) for key in files]
        self.assertEqual(sum(len(read(key)) for key in files), load["result"]["bytes"])
        table = pa.concat_tables(tables) if tables else pa.table({})
        self.assertEqual(table.num_rows, load["result"]["rows"])
        return table

    def given_up(self, number: int, reason: str, *words: object) -> None:
        self.assertEqual(self.run_job("--loads", number, *words), 0, self.log.getvalue())
        load = registrar.loads[number]
        self.assertEqual((load["status"], load["status_reason"]), ("ready_for_erroring", reason), self.log.getvalue())
        self.assertEqual((keys("springboard/"), keys("work/")), ([], []))

    def test_a_load_of_qlik_has_the_types_of_its_dfm(self) -> None:
        table = self.ingested(self.put(gzip.compress(SAMPLE), f"{KEY}.gz", SAMPLE_DFM))
        self.assertEqual(
            dict(zip(table.column_names, map(str, table.schema.types))),
            {
                "SAMPLE_ID": "int64", "SAMPLE_NAME": "string", "STATION_COUNT": "int32", "FARE": "decimal128(12, 4)",
                "RATIO": "double", "IS_ACTIVE": "bool", "OPENED_ON": "date32[day]", "OPENS_AT": "time64[us]",
                "EDW_INSERTED_DTM": "timestamp[us]",
            },
        )  # fmt: skip
        rows = [list(row.values()) for row in table.to_pylist()]
        first = [1, "Park Street", 4, Decimal("2.4000"), 0.5, True, date(1897, 9, 1), time(5, 15)]
        self.assertEqual(rows[0], [*first, datetime(2021, 12, 1, 11, 20, 30, 444_444)])
        self.assertEqual(rows[1], [2, 'Say "hi", \U0001f687\nsecond line', *[None] * 7])
        third = [3, "", -1, Decimal("-0.0001"), 0.001, False, date(2000, 2, 29), time(23, 59, 59, 999_999)]
        self.assertEqual(rows[2], [*third, datetime(2021, 12, 1, 11, 20, 30)])
        self.assertIsNone(rows[3][1], "one without quotes is null")
        self.assertEqual(rows[3][8], datetime(1, 1, 1))
        self.assertEqual(rows[5][1], "last line without a newline")
        result = next(iter(registrar.loads.values()))["result"]
        self.assertEqual((result["rows"], result["quarantined"], result["missing"], result["added"]), (6, 0, [], []))
        self.assertNotIn("declared_records", result)

    def test_a_file_of_changes_says_what_happened_in_typed_columns(self) -> None:
        number = self.put(CHANGES, dfm=CHANGES_DFM, changes=True)
        table = self.ingested(number)
        kinds = [f"{name} {kind}" for name, kind in zip(table.column_names, table.schema.types)][:3]
        self.assertEqual(
            kinds,
            ["header__change_seq decimal128(35, 0)", "header__change_oper string", "header__timestamp timestamp[us]"],
        )
        self.assertEqual("".join(table["header__change_oper"].to_pylist()), "IBUD")
        self.assertEqual(table["header__change_seq"][0].as_py(), 20220102204946000000000000000000005)
        self.assertEqual(table["SAMPLE_NAME"].to_pylist()[3], None)
        self.assertEqual(registrar.loads[number]["result"]["added"], [])

    def test_a_file_has_the_load_in_its_footer_and_can_be_read_by_spark(self) -> None:
        number = self.put(b"id,name\n1,a\n", columns=declared(id="bigint", name="text"))
        self.ingested(number)
        metadata = pq.read_metadata(io.BytesIO(read(f"{PLACE}{number}-0.parquet"))).metadata
        self.assertEqual((metadata[b"landfall.load"], metadata[b"landfall.key"]), (str(number).encode(), KEY.encode()))
        self.assertNotIn(b"ARROW:schema", metadata)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "0.parquet").write_bytes(read(f"{PLACE}{number}-0.parquet"))
            found = spark.read.parquet(folder)
            self.assertEqual([tuple(row) for row in found.collect()], [(1, "a")])
            self.assertEqual(found.dtypes, [("id", "bigint"), ("name", "string")])

    def test_files_of_other_writers_are_read_as_load_ingester_reads_them(self) -> None:
        corpus = (TESTDATA / "readers.ndjson").read_text().strip("\n").split("\n")
        self.assertGreaterEqual(len(corpus), 100)
        read_back = spark.sparkContext.parallelize(corpus, 2).map(read_case).collect()
        for number, (line, found) in enumerate(zip(corpus, read_back)):
            case = json.loads(line)
            doubles = [column["type"] == "double" for column in case["columns"]]
            expected = [[value if value is None or not is_double else repr(float(value)) for value, is_double in zip(row, doubles)]
                        for row in case["rows"]]  # fmt: skip
            for rows, refused in found:
                self.assertEqual((rows, refused), (expected, case["refused"]), f"{number}: {case['csv']!r}")

    def test_a_large_load_has_several_files_with_its_rows_in_order(self) -> None:
        rows = "".join(f'{row},"name, {row}\n",x\n' for row in range(3_000))
        body = f"id,name,gone\n{rows}".encode()
        with mock.patch.object(ingest, "BLOCK_BYTES", 10_000):
            number = self.put(body, columns=declared(id="integer", name="text"))
            table = self.ingested(number)
            self.assertEqual(table["id"].to_pylist(), list(range(3_000)))
            self.assertGreater(registrar.loads[number]["result"]["files"], 5)
            before = {key: read(key) for key in keys(PLACE)}
            registrar.loads[number]["status"] = "ready"
            self.ingested(number)
            self.assertEqual({key: read(key) for key in keys(PLACE)}, before, "the same names and the same bytes")

    def test_a_block_without_rows_leaves_no_gap_in_the_names(self) -> None:
        body = b"id\n" + b"1\n" * 50 + b"x\n" * 200 + b"2\n" * 50
        with mock.patch.object(ingest, "BLOCK_BYTES", 100):
            table = self.ingested(self.put(body, columns=declared(id="integer")))
        self.assertEqual(table["id"].to_pylist(), [1] * 50 + [2] * 50)
        self.assertEqual(sum(read(key).count(b"\n") for key in keys("quarantine/")), 200)

    def test_what_does_not_fit_is_kept_where_load_ingester_keeps_it(self) -> None:
        body = 'a,b,c\n"x\ny",1,2021-12-01\nz,40000,2021-12-01\nz,2,gone\nw,3,\nv,4\nü,5,2021-12-01,\n'.encode()
        body += b'\xff,6,2021-12-01\n\xe9"q,7,2021-12-01\n"r,8,'
        number = self.put(body, columns=declared(a="text", b="smallint", c="date"))
        table = self.ingested(number)
        self.assertEqual(table["a"].to_pylist(), ["x\ny", "w"])
        [key] = keys("quarantine/")
        self.assertRegex(key, "^quarantine/load-ingester/2022/01/01/20220101T204020123Z-[0-9a-f]{16}\\.ndjson$")
        kept = [json.loads(line) for line in read(key).splitlines()]
        kept.sort(key=lambda record: record["attributes"]["line"])
        found = [(one["attributes"]["line"], one["attributes"]["column"], one["reason"], base64.b64decode(one["body_base64"]))
                 for one in kept]  # fmt: skip
        expected = [
            (4, "b", "out_of_range", b"z,40000,2021-12-01"),
            (5, "c", "not_a_date", b"z,2,gone"),
            (7, None, "too_few_fields", b"v,4"),
            (8, None, "too_many_fields", "ü,5,2021-12-01,".encode()),
            (9, "a", "invalid_utf8", b"\xff,6,2021-12-01"),
            (10, "a", "invalid_utf8", b'\xe9"q,7,2021-12-01'),
            (11, None, "unclosed_quote", b'"r,8,'),
        ]
        self.assertEqual(found, expected)
        self.assertEqual(kept[0]["id"], f"{number}:4")
        self.assertEqual((kept[0]["function"], kept[0]["sent_at"]), ("load-ingester", "2022-01-01T20:40:20.123Z"))
        self.assertEqual(kept[0]["detail"], 'line 4, column b: out_of_range: "40000"')
        self.assertEqual(registrar.loads[number]["result"]["quarantined"], 7)

    def test_the_table_says_what_happens_to_misfits(self) -> None:
        body, columns = b"a,b\n1,x\n2,2.345\n3,4\nonly\n", declared(a="integer", b="decimal(5,2)")
        table = self.ingested(number := self.put(body, columns=columns, on_misfit="null"))
        self.assertEqual(table["b"].to_pylist(), [None, None, Decimal("4.00")])
        result = registrar.loads[number]["result"]
        self.assertEqual((result["nulled"], result["quarantined"]), (2, 1))
        self.setUp()
        self.given_up(self.put(body, columns=columns, on_misfit="fail"), "misfit")
        self.assertIn("not_a_decimal", self.log.getvalue())
        self.given_up(self.put(body, columns=columns), "too_many_misfits", "--max_quarantined_rows", 2)
        self.assertEqual(keys("quarantine/"), [])

    def test_columns_are_found_by_their_names(self) -> None:
        number = self.put(b"extra,NAME,id,\nx,y,1,z\n", columns=declared(id="bigint", Name="text", gone="date"))
        table = self.ingested(number)
        self.assertEqual(table.to_pylist(), [{"id": 1, "Name": "y", "gone": None, "extra": "x", "column_4": "z"}])
        self.assertEqual(str(table.schema.field("gone").type), "date32[day]")
        result = registrar.loads[number]["result"]
        self.assertEqual((result["missing"], result["added"]), (["gone"], ["extra", "column_4"]))
        self.setUp()
        table = self.ingested(self.put(b"id,ID,,id_2\n1,2,3,4\n"))
        self.assertEqual(table.to_pylist(), [{"id": "1", "ID_2": "2", "column_3": "3", "id_2_2": "4"}])
        self.given_up_after_setup(b"a,b,a\n1,2,3\n", "invalid_header")

    def given_up_after_setup(self, body: bytes, reason: str, **members: object) -> None:
        self.setUp()
        self.given_up(self.put(body, **members), reason)

    def test_what_cannot_be_read_is_given_up_for_the_same_reasons(self) -> None:
        whole = gzip.compress(b"a,b\n" + b"1,2\n" * 5_000)
        for body, reason, members in [
            (whole[:-9], "invalid_gzip", {"key": f"{KEY}.gz"}),
            (whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:], "invalid_gzip", {"key": f"{KEY}.gz"}),
            (b"a,b\n", "invalid_gzip", {"key": f"{KEY}.gz"}),
            (b'a,"b\n1,2\n', "invalid_header", {}),
            (b"\xff,b\n1,2\n", "invalid_header", {}),
            (b"a", "unknown_format", {"key": "a/b.parquet"}),
            (b"a\n", "columns_unusable", {"columns": declared(a="geometry")}),
            (b"a\n", "columns_unusable", {"dfm": b'{"dataInfo":{"columns":[{"ordinal":1,"type":"INT4"}]}}'}),
            (
                b"a\n",
                "columns_unusable",
                {"dfm": SAMPLE_DFM.replace(b'"fieldDelimiter":\t","', b'"fieldDelimiter":\t"\\""')},
            ),
        ]:
            self.given_up_after_setup(body, reason, **members)

    def test_gzip_may_have_several_members(self) -> None:
        body = gzip.compress(b"a,b\n1,2\n3") + gzip.compress(b",4\n") + gzip.compress(b"5,6\n")
        self.assertEqual(self.ingested(self.put(body, f"{KEY}.GZ"))["b"].to_pylist(), ["2", "4", "6"])

    def test_an_object_without_rows_has_no_file(self) -> None:
        for body in (b"a,b\n", b"a,b", b"\n\n", b"\xef\xbb\xbfa\n"):
            self.setUp()
            number = self.put(body, columns=declared(z="date"))
            self.ingested(number)
            self.assertEqual((registrar.loads[number]["result"]["files"], keys("springboard/")), (0, []))
            self.assertEqual(registrar.loads[number]["result"]["missing"], ["z"])

    def test_json_has_its_declared_members_and_the_rest(self) -> None:
        lines = [
            '{"id": 7, "at": "2021-12-01T11:20:30Z", "tags": ["a", {"b": 1.0}], "ok": true, "n": 1.50}\r',
            '  {"extra": {"x": [1,  2]}, "id": "8", "a\\"b": null, "n": null, "tags": "caf\\u00e9"}  ',
            "",
            '{"id": 9, "id": 10, "ok": 1}',
            "[1]",
            '{"id":',
            '{"id": NaN}',
        ]
        columns = declared(id="bigint", at="timestamp", tags="text", ok="boolean", n="decimal(9,2)")
        number = self.put("\n".join(lines).encode(), "a/b.json", columns=columns)
        self.assertEqual(
            [list(row.values()) for row in self.ingested(number).to_pylist()],
            [
                [7, datetime(2021, 12, 1, 11, 20, 30), '["a", {"b": 1.0}]', True, Decimal("1.50"), None],
                [8, None, "café", None, None, '{"extra":{"x": [1,  2]},"a\\"b":null}'],
                [10, None, None, True, None, None],
            ],
        )
        reasons = [json.loads(line)["reason"] for line in read(keys("quarantine/")[0]).splitlines()]
        self.assertEqual(reasons, ["not_an_object", "not_json", "not_json"])
        self.setUp()
        table = self.ingested(self.put(b'{"a": 1.10,  "b":"\\u00e9"}\r\n [1,2]\nnull\nnot json\n', "a/b.json"))
        self.assertEqual(table["record"].to_pylist(), ['{"a": 1.10,  "b":"\\u00e9"}', " [1,2]", "null"])

    def test_the_version_that_was_registered_is_read(self) -> None:
        number = self.put(b"a\nold\n")
        s3.put_object(Bucket=INCOMING, Key=KEY, Body=b"a\nnew\n")
        self.assertEqual(self.ingested(number)["a"].to_pylist(), ["old"])
        s3.delete_object(Bucket=INCOMING, Key=KEY, VersionId=registrar.loads[number]["s3_version"])
        registrar.loads[number]["status"] = "ready"
        boto3.resource("s3").Bucket(LAKE).objects.all().delete()
        self.given_up(number, "object_gone")

    def test_without_versions_what_was_replaced_is_superseded(self) -> None:
        number = self.put(b"a\nold\n", bucket=UNVERSIONED)
        s3.put_object(Bucket=UNVERSIONED, Key=KEY, Body=b"a\nnew\n")
        self.given_up(number, "superseded")

    def test_each_version_of_an_object_has_the_dfm_that_was_written_with_it(self) -> None:
        def version(key: str, second: int) -> dict[str, object]:
            return {"Key": key, "LastModified": datetime.fromtimestamp(second + 0.14, timezone.utc)}

        def chosen(at: int, objects: list[int], dfms: list[int]) -> tuple[int | None, bool]:
            versions = [version("k.csv", second) for second in objects] + [version("k.dfm", second) for second in dfms]
            found, is_own = rules.companion(versions, "k.csv", "k.dfm", at)
            return found and int(found["LastModified"].timestamp()), is_own

        self.assertEqual([chosen(at, [10, 20, 30], [11, 20, 32])[0] for at in (10, 20, 30)], [11, 20, 32])
        self.assertEqual(chosen(20, [20], []), (None, False))
        self.assertEqual(chosen(20, [20, 30], [5, 11, 31]), (11, False))
        self.assertEqual(chosen(20, [20, 30], [31, 40]), (31, False))

    def test_a_load_waits_for_its_dfm(self) -> None:
        now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
        number = self.put(b"a\n1\n", kind="ods", s3_modified=now)
        self.assertEqual(self.run_job("--loads", number), 1)
        self.assertEqual(registrar.loads[number]["status"], "ready")
        registrar.loads[number]["s3_modified"] = "2022-01-01T20:40:20Z"
        self.assertEqual(self.ingested(number)["a"].to_pylist(), ["1"])

    def test_another_number_of_records_than_declared_is_reported(self) -> None:
        number = self.put(
            SAMPLE.replace(b"4,,", b"x,,"), dfm=SAMPLE_DFM.replace(b'"recordCount":\t6', b'"recordCount":\t7')
        )
        self.assertEqual(self.ingested(number).num_rows, 5)
        self.assertEqual(registrar.loads[number]["result"]["declared_records"], 7)

    def test_loads_that_are_too_large_for_the_function_are_found(self) -> None:
        registrar.page = 1
        waits = {"status": "ready_for_erroring", "status_reason": "too_large"}
        numbers = [self.put(b"a\n1\n", f"a/{part}.csv", **waits) for part in range(3)]
        other = self.put(b"a\n1\n", "a/x.csv", status="ready_for_erroring", status_reason="superseded")
        elsewhere = self.put(b"a\n1\n", "b/y.csv", table="another", **waits)
        self.assertEqual(self.run_job("--table", "cubic__ods_qlik__edw_sample"), 0, self.log.getvalue())
        self.assertEqual([registrar.loads[number]["status"] for number in numbers], ["ready_for_archiving"] * 3)
        for number in (other, elsewhere):
            self.assertEqual(registrar.loads[number]["status"], "ready_for_erroring")

    def test_a_load_is_ingested_once_however_often_the_job_is_started(self) -> None:
        number = self.put(b"a\n1\n", status="ready_for_erroring", status_reason="too_large")
        meanwhile = []

        def start_another(command: dict) -> None:
            if command["command"] == "loads_renew" and not meanwhile:
                meanwhile.append(threading.Thread(target=lambda: meanwhile.append(self.run_job("--loads", number))))
                meanwhile[0].start()
                meanwhile[0].join()

        registrar.at = start_another
        self.assertEqual(self.run_job(), 0)
        self.assertEqual(meanwhile[1:], [0])
        load = registrar.loads[number]
        self.assertEqual((load["status"], load["lease"]), ("ready_for_archiving", 1))
        self.assertEqual(keys("springboard/"), [f"{PLACE}{number}-0.parquet"])

    def test_a_job_that_is_started_while_another_claims_leaves_the_load_to_it(self) -> None:
        number = self.put(b"a\n1\n", status="ready_for_erroring", status_reason="too_large")

        def claim_first(command: dict) -> None:
            if command["command"] == "loads_next":
                registrar.at = lambda command: None
                registrar.loads_next([number], 1, 900, "load-ingester", "ingest")

        registrar.at = claim_first
        self.assertEqual(self.run_job(), 0)
        self.assertEqual(registrar.loads[number]["leased_by"], "load-ingester")
        self.assertEqual(keys(""), [])

    def test_a_job_that_dies_is_followed_by_one_that_writes_the_same(self) -> None:
        body = b"id\n" + b"".join(b"%d\n" % row for row in range(500))
        number = self.put(body, columns=declared(id="integer"))
        with mock.patch.object(ingest, "BLOCK_BYTES", 400):
            renewed = []

            def die_at_the_second_file() -> None:
                renewed.append(1)
                if len(keys("springboard/")) == 2:
                    raise KeyboardInterrupt

            with mock.patch.object(ingest.Lease, "check", lambda lease: die_at_the_second_file()):
                with mock.patch.object(ingest, "clear"), self.assertRaises(KeyboardInterrupt):
                    self.run_job("--loads", number)
            self.assertEqual(registrar.loads[number]["status"], "ingesting")
            left = {key: read(key) for key in keys("springboard/")}
            self.assertEqual(len(left), 2)
            self.assertTrue(keys("work/"))
            self.assertEqual(self.run_job("--loads", number), 0)
            self.assertEqual(registrar.loads[number]["lease"], 1, "the lease of the dead job fences until it ends")
            registrar.expire(number)
            self.assertEqual(self.ingested(number)["id"].to_pylist(), list(range(500)))
            self.assertEqual({key: read(key) for key in left}, left)

    def test_a_job_that_loses_its_lease_changes_nothing(self) -> None:
        number = self.put(b"a\n1\nx\n", columns=declared(a="integer"))

        def give_to_another(plan: dict, line: int, block: bytes) -> tuple[int, bytes]:
            registrar.expire(number)
            registrar.loads_next([number], 1, 900, "another", "ingest")
            return rules.header(plan, line, block)

        with mock.patch.object(ingest, "header", give_to_another):
            self.assertEqual(self.run_job("--loads", number), 1)
        load = registrar.loads[number]
        self.assertEqual((load["status"], load["leased_by"], load["lease"]), ("ingesting", "another", 2))
        self.assertEqual(keys(""), [], "no file, no row, and no block of the loser is left")

    def test_tasks_are_cancelled_when_the_lease_is_lost(self) -> None:
        number = self.put(b"a\n1\n")

        def lose(command: dict) -> None:
            if command["command"] == "loads_renew":
                registrar.expire(number)

        registrar.at = lose
        cancelled = threading.Event()
        claimed = registrar.loads_next([number], 1, 900, "glue", "ingest")["loads"][0]
        asking = partial(registrar_client.ask, boto3.client("lambda"), "landfall-load-registrar")
        with mock.patch.object(registrar_client, "RENEW_S", 0.01):
            lease = registrar_client.Lease(asking, claimed, cancelled.set)
            lease.start()
            self.assertTrue(cancelled.wait(10))
        lease.ended.set()
        self.assertRaises(registrar_client.Lost, lease.check)

    def test_a_registrar_that_does_not_answer_is_asked_again_until_the_lease_ends(self) -> None:
        number = self.put(b"a\n1\n")
        failures = []

        def fail_once(command: dict) -> None:
            if command["command"] == "loads_renew" and not failures:
                failures.append(command)
                raise OSError("Postgres restarts")

        registrar.at = fail_once
        self.assertEqual(self.ingested(number)["a"].to_pylist(), ["1"])
        self.assertEqual(len(failures), 1)

    def test_a_connection_that_breaks_is_taken_up_where_it_broke(self) -> None:
        # The emulator gives the whole object for a range of a version.
        number = self.put(b"a\n" + b"1234567\n" * 2_000, bucket=UNVERSIONED)
        broken = [0]
        read_body = StreamingBody.read

        def break_sometimes(body: StreamingBody, amt: int | None = None) -> bytes:
            broken[0] += body._content_length == "4000"
            if broken[0] in (2, 3) and body._content_length == "4000":
                raise ResponseStreamingError(error="reset")
            return read_body(body, amt)

        with mock.patch.object(ingest, "RANGE_BYTES", 4_000), mock.patch.object(StreamingBody, "read", break_sometimes):
            with mock.patch.object(ingest, "BLOCK_BYTES", 5_000):
                self.assertEqual(self.run_job("--loads", number), 0, self.log.getvalue())
        self.assertEqual(self.log.getvalue().count("the object is read on at byte"), 2)
        self.assertEqual(registrar.loads[number]["result"]["rows"], 2_000)

    def test_what_fails_for_now_is_given_back(self) -> None:
        number = self.put(b"a\n1\n")
        with mock.patch.object(ingest, "header", side_effect=OSError("S3 is slow")):
            self.assertEqual(self.run_job("--loads", number), 1)
        self.assertEqual((registrar.loads[number]["status"], keys("")), ("ready", []))

    def test_a_record_that_never_ends_is_where_the_job_differs_from_load_ingester(self) -> None:
        body = b'a,b\n1,"' + b"2,3\n" * 100_000 + b'"\n4,5\n'
        with mock.patch.object(rules, "LONGEST_CUT", 200_000), mock.patch.object(ingest, "BLOCK_BYTES", 50_000):
            self.given_up(self.put(body), "record_too_long")

    def test_the_job_is_short_and_the_template_passes_what_it_reads(self) -> None:
        self.assertLessEqual(len((GLUE / "ingest.py").read_text().splitlines()), 200)
        template = (GLUE / "template.yaml").read_text()
        arguments = set(re.findall(r"^ +--([a-z_]+): ", template, re.MULTILINE))
        known = set(re.findall(r'add_argument\("--([a-z_]+)"', (GLUE / "ingest.py").read_text()))
        self.assertEqual(arguments - known, set())
        self.assertIn(f"pyarrow=={pa.__version__}", template)


def read_case(line: str) -> list:
    """Rows and refused records of a file of the corpus, in one block and in small ones."""
    case = json.loads(line)
    load = {"id": 1, "table": "t", "s3_key": "a.csv", "s3_etag": "e", "changes": False, "on_misfit": "quarantine"}
    dfm = json.dumps({"formatInfo": {"options": case["dialect"]}, "dataInfo": {"columns": []}})
    found = []
    for size in (1 << 20, 7, 64):
        plan = rules.plan_of({**load, "columns": case["columns"]}, dfm) | {"most_misfits": 1_000}
        rows, refused = [], []
        for at, (first, block) in enumerate(rules.blocks(io.BytesIO(case["csv"].encode()).read, size, plan["dialect"])):
            if at == 0:
                first, block = rules.header(plan, first, block)
            file, _, misfits = rules.parquet(block, first, plan)
            columns = [plain(column) for column in pq.read_table(io.BytesIO(file)).columns]
            rows += map(list, zip(*columns))
            refused += [[line, column] for line, column, *_ in misfits]
        found.append((rows, refused))
    return found


def plain(column: pa.ChunkedArray) -> list[str | None]:
    """Values as the corpus writes them."""
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        column = column.cast(pa.int32() if pa.types.is_date(kind) else pa.int64())
    values = column.to_pylist()
    with localcontext(prec=60):
        if pa.types.is_decimal(kind):
            values = [value if value is None else int(value.scaleb(kind.scale)) for value in values]
    if pa.types.is_boolean(kind):
        values = [value if value is None else str(value).lower() for value in values]
    return [value if value is None else repr(value) if isinstance(value, float) else str(value) for value in values]


if __name__ == "__main__":
    unittest.main()
