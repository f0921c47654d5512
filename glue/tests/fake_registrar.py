"""A load-registrar for tests: an HTTP server that Lambda's clients can invoke, as strict with leases and statuses as the real one."""

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LEGAL = {
    "ready": {"ready_for_erroring"},
    "ingesting": {"ready", "ready_for_archiving", "ready_for_erroring"},
    "ready_for_erroring": {"ready"},
}
COMMANDS = {
    "loads_list": {"table", "status", "since", "displaced", "after", "limit"},
    "loads_next": {"table", "loads", "step", "limit", "lease_seconds", "by"},
    "loads_renew": {"loads", "lease_seconds"},
    "loads_set_status": {"loads", "status", "reason", "by", "revoke"},
}
RESULT = {"rows", "quarantined", "nulled", "files", "bytes", "missing", "added", "declared_records"}
LOAD = {
    "table": "cubic__ods_qlik__edw_sample", "kind": "ods", "columns": None, "on_misfit": "quarantine", "changes": False,
    "status": "ready", "status_reason": None, "s3_bucket": "glue-incoming", "s3_modified": "2022-01-01T20:40:20.123Z",
    "s3_version": None, "snapshot": None, "result": None, "place": "cubic/ods_qlik/EDW.SAMPLE/snapshot=20220101T204020Z/",
    "complete_in": None, "places": [], "lease": 0, "attempts": 0, "leased_by": None, "leased_until": None,
}  # fmt: skip


class Refusal(Exception):
    """What the registrar answers with the error type `Refused`."""


class Registrar:
    """Loads in memory. `at` is called with each command before it is carried out, and may do something meanwhile."""

    def __init__(self) -> None:
        self.loads: dict[int, dict[str, Any]] = {}
        self.steps: list[tuple[int, str, str | None]] = []
        self.lock, self.ids, self.page, self.at = threading.RLock(), itertools.count(1201), 1000, lambda command: None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"registrar": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def register(self, **members: Any) -> int:
        number = next(self.ids)
        self.loads[number] = {**LOAD, "id": number, **members}
        return number

    def expire(self, number: int) -> None:
        self.loads[number]["leased_until"] = 0

    def answer(self, command: dict[str, Any]) -> Any:
        self.at(command)
        with self.lock:
            name = command.pop("command")
            if unknown := command.keys() - COMMANDS[name]:
                raise Refusal(f"unknown field {unknown}")
            return getattr(self, name)(**command)

    def loads_list(self, limit: int, status: str, table: str | None = None, after: Any = None) -> Any:
        found = [load for load in self.loads.values() if load["status"] == status and table in (None, load["table"])]
        found = [load for load in found if after is None or load["id"] > after["id"]]
        more = len(found) > min(limit, self.page)
        found = found[: min(limit, self.page)]
        return {
            "loads": found,
            "next": {"s3_modified": found[-1]["s3_modified"], "id": found[-1]["id"]} if more else None,
        }

    def loads_next(self, loads: list[int], limit: int, lease_seconds: int, by: str, step: str) -> Any:
        assert step == "ingest" and limit >= 1
        claimed = []
        for load in (self.loads[number] for number in loads if number in self.loads):
            has_expired = load["status"] == "ingesting" and load["leased_until"] <= time.monotonic()
            if load["status"] == "ready" or has_expired:
                until = time.monotonic() + lease_seconds
                load |= {"status": "ingesting", "lease": load["lease"] + 1, "leased_by": by, "leased_until": until}
                load |= {"status_reason": None, "places": sorted({*load["places"], load["place"]})}
                claimed.append(dict(load))
        return {"loads": claimed, "next": None}

    def loads_renew(self, loads: list[dict[str, Any]], lease_seconds: int) -> Any:
        for reference in loads:
            self.held(reference)["leased_until"] = time.monotonic() + lease_seconds
        return {"loads": [self.loads[reference["id"]] for reference in loads], "next": None}

    def loads_set_status(self, loads: list[dict[str, Any]], status: str, by: str, reason: str | None = None) -> Any:
        unchanged = []
        for reference in loads:
            load = self.loads[reference["id"]]
            if (reference["id"], status, reference.get("lease")) in self.steps or load["status"] == status:
                unchanged.append(load["id"])
                continue
            if load["status"] == "ingesting":
                self.held(reference)
            elif "lease" in reference:
                raise Refusal(f"load {load['id']} is {load['status']}, so lease {reference['lease']} of it has ended")
            if status not in LEGAL.get(load["status"], ()):
                raise Refusal(f"load {load['id']} cannot go from {load['status']} to {status}")
            if reference.keys() - {"id", "lease", "result"} or reference.get("result", {}).keys() - RESULT:
                raise Refusal("unknown field")
            self.steps.append((load["id"], status, reference.get("lease")))
            load |= {"status": status, "leased_by": None, "leased_until": None, "result": reference.get("result")}
            load["status_reason"] = reason if status == "ready_for_erroring" else None
        return {"loads": [self.loads[reference["id"]] for reference in loads], "unchanged": unchanged}

    def held(self, reference: dict[str, Any]) -> dict[str, Any]:
        load = self.loads[reference["id"]]
        if load["status"] != "ingesting" or reference.get("lease") != load["lease"]:
            raise Refusal(
                f"lease {reference.get('lease')} of load {load['id']} is not its current one, which is {load['lease']}"
            )
        if load["leased_until"] <= time.monotonic():
            raise Refusal(f"lease {reference['lease']} of load {load['id']} ran out")
        return load


class _Handler(BaseHTTPRequestHandler):
    registrar: Registrar

    def do_POST(self) -> None:
        assert self.path == "/2015-03-31/functions/landfall-load-registrar/invocations", self.path
        error = None
        command = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            answer = self.registrar.answer(command)
        except Refusal as refusal:
            error, answer = "Refused", {"errorType": "Refused", "errorMessage": str(refusal)}
        except OSError as failure:
            error, answer = "Unhandled", {"errorType": "Unavailable", "errorMessage": str(failure)}
        body = json.dumps(answer).encode()
        self.send_response(200)
        if error:
            self.send_header("X-Amz-Function-Error", "Unhandled")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""
