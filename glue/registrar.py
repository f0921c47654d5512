"""Asks load-registrar, and keeps the lease of a load."""

import json
import threading
import time

from botocore.config import Config

LEASE_S, RENEW_S, MARGIN_S = 900, 120, 60
# load-registrar ends within a minute. A claim that is asked twice gets nothing the second time.
CLAIMING = Config(read_timeout=65, retries={"total_max_attempts": 1})


class Lost(Exception):
    """load-registrar refuses the step, or may soon: another job has the load, and nothing may be changed any more."""


def ask(client, function, command, **members):
    """Asks load-registrar, by invocation."""
    answer = client.invoke(FunctionName=function, Payload=json.dumps({"command": command, **members}))
    result = json.load(answer["Payload"])
    if "FunctionError" in answer:
        raise (Lost if result.get("errorType") == "Refused" else OSError)(result.get("errorMessage"))
    return result


class Lease(threading.Thread):
    """Renews the lease of a load, and cancels its tasks when that is lost."""

    def __init__(self, ask, load, cancel):
        super().__init__(daemon=True)
        self.ask, self.load, self.cancel = ask, {"id": load["id"], "lease": load["lease"]}, cancel
        self.until, self.ended = time.monotonic() + LEASE_S - MARGIN_S, threading.Event()

    def run(self):
        while not self.ended.wait(RENEW_S):
            self.renew()
            if time.monotonic() >= self.until:
                self.cancel()

    def renew(self):
        asked = time.monotonic()
        try:
            self.ask("loads_renew", loads=[self.load], lease_seconds=LEASE_S)
            self.until = asked + LEASE_S - MARGIN_S
        except Lost:
            self.until = asked
        except Exception as error:  # There is time to ask again until the lease ends.
            print(f"load {self.load['id']}: the lease could not be renewed: {error}", flush=True)

    def check(self):
        if time.monotonic() >= self.until:
            raise Lost("the lease has ended")

    def step(self, status, reason=None, **result):
        self.ask("loads_set_status", loads=[{**self.load, **result}], status=status, reason=reason, by="glue")
