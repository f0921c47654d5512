"""The stack on the emulator: `sam deploy` of the one template with the binaries of this checkout."""

import difflib
import hashlib
import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import boto3
from samcli.yamlhelper import yaml_parse

from local import build, emulator, postgres, protos
from local.command import run_logged
from local.environment import FAKE_ACCOUNT, REGION
from local.paths import BUILD, ENV_FILE, PROGRAMS, STACK_FILE, TEMPLATE, VENV
from local.progress import Failure, step

NAME = "landfall"
ARTIFACTS_BUCKET = "landfall-artifacts"

# Names of outputs. A stack without a database has no registrar.
WRITER = "ParquetWriterFunctionName"
REGISTRAR = "LoadRegistrarFunctionName"
INGESTER = "LoadIngesterFunctionName"

# The variables that the commands of the documents use, and the outputs that they stand for.
DOCUMENTED = {
    "DEAD_LETTER_QUEUE_URL": "EventsDeadLetterQueueUrl",
    "INCOMING": "IncomingBucketName",
    "LAKE": "LakeBucketName",
    "QUEUE_URL": "EventsQueueUrl",
    "STREAM": "KafkaStreamName",
}

# The emulator delivers at most 10 messages, without waiting for more; draining makes big files all the same. Its poller
# fails if the concurrency comes from a parameter.
PARAMETERS = {
    "WriterDrainTargetBytes": str(64 * 1024 * 1024),
    "WriterDrainMaxSeconds": "20",
    "WriterConcurrency": "0",
    "IngesterConcurrency": "0",
    "IngesterMaxQueued": "1000",
    "FunctionTimeoutSeconds": "60",
    "WriterBatchWindowSeconds": "1",
    "RollerMaxTickAheadSeconds": "86400",  # the demo and the tests let an hour pass at once
}


@dataclass(frozen=True)
class Stack:
    """A deployed stack, as described in `.local/stack.json`."""

    endpoint_url: str
    postgres_url: str
    region: str
    stack_name: str
    parameters: dict[str, str]
    outputs: dict[str, str]
    fingerprint: str

    @property
    def collect_url(self) -> str | None:
        """Where the emulator has what the output `CollectUrl` names on AWS."""
        api = self.outputs.get("CollectApiId")
        return api and f"{self.endpoint_url}/_aws/execute-api/{api}/$default"

    def client(self, service: str) -> Any:
        """A client of one of the emulator's services."""
        return _client(service, self.endpoint_url)

    def ask(self, command: str, **members: Any) -> Any:
        """Invokes load-registrar with a command of `shared/src/registrar.rs`. Returns its response."""
        answer = self.client("lambda").invoke(
            FunctionName=self.outputs[REGISTRAR], Payload=json.dumps({"command": command, **members})
        )
        response = json.load(answer["Payload"])
        if "FunctionError" in answer:
            raise Failure(f"load-registrar could not do {command}: {response['errorMessage']}")
        return response

    def pages(self, command: str, **members: Any) -> Iterator[Any]:
        """The responses to a command whose response comes in pages."""
        while True:
            response = self.ask(command, **members)
            yield response
            if not response["next"]:
                return
            members["after"] = response["next"]

    @contextmanager
    def without_ticks(self, function: str) -> Iterator[None]:
        """Disables the schedule of a function. `function` is the name of an output."""
        events, functions = self.client("events"), self.client("lambda")
        arn = functions.get_function_configuration(FunctionName=self.outputs[function])["FunctionArn"]
        rules = events.list_rule_names_by_target(TargetArn=arn)["RuleNames"]
        for rule in rules:
            events.disable_rule(Name=rule)
        try:
            yield
        finally:
            for rule in rules:
                events.enable_rule(Name=rule)

    def tick(self, function: str, at: datetime) -> None:
        """Invokes a function with the event of its schedule, as it will be then. `function` is the name of an output."""
        event = {"source": "aws.events", "detail-type": "Scheduled Event", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
        answer = self.client("lambda").invoke(FunctionName=self.outputs[function], Payload=json.dumps(event))
        if "FunctionError" in answer:
            message = json.load(answer["Payload"])["errorMessage"]
            raise Failure(f"{self.outputs[function]} could not do what its schedule asks for: {message}")


def up(
    overrides: Mapping[str, str] | None = None, commands: Sequence[str] = build.COMMANDS, fresh: bool = False
) -> Stack:
    """Starts what is not running, compiles the functions and `commands`, and deploys what has changed.

    `fresh` forgets all data first. The classes of `proto/` are generated, too, for whoever sends an event.
    """
    protos.ensure()
    defaults = _defaults()
    if unknown := sorted(set(overrides or {}) - set(defaults)):
        alike = difflib.get_close_matches(unknown[0], defaults, n=1)
        hint = f"; did you mean {alike[0]}?" if alike else ""
        raise Failure(f"template.yaml has no parameter {unknown[0]}{hint}")
    database = postgres.ensure()
    parameters = {
        **defaults,
        "Arch": _host_arch(),
        **PARAMETERS,
        "DatabaseUrl": database.url,
        **(overrides or {}),
    }
    build.compile(*commands)
    build.pack()
    empty = emulator.running() is None
    host = emulator.ensure()
    if fresh and not empty:
        STACK_FILE.unlink(missing_ok=True)
        with step("Emptying the stack that is running"):
            host.reset()
    if fresh or empty:  # The loads in the database refer to objects in the emulator.
        database.reset()
    fingerprint = _fingerprint(parameters)
    deployed = recorded()
    if deployed and deployed.fingerprint == fingerprint and deployed.postgres_url == database.url:
        return deployed
    # A deployment that fails leaves the stack in an unknown state.
    STACK_FILE.unlink(missing_ok=True)
    with step("Deploying template.yaml to the emulator") as s:
        _client("s3", host.endpoint_url).create_bucket(Bucket=ARTIFACTS_BUCKET)
        deploy = ["sam", "deploy", "--config-env", "local", "--parameter-overrides", *_pairs(parameters)]
        run_logged(deploy, s, "deploy")
    outputs = _outputs(host.endpoint_url)
    stack = Stack(host.endpoint_url, database.url, REGION, NAME, parameters, outputs, fingerprint)
    _one_at_a_time(stack)
    if REGISTRAR in outputs:
        with step(f"Migrating the database {postgres.NAME}") as s:
            s.say(_migrated(stack))
    STACK_FILE.write_text(json.dumps(asdict(stack), indent=2) + "\n")
    ENV_FILE.write_text(_env(stack))
    return stack


def _client(service: str, endpoint_url: str) -> Any:
    session: Any = boto3.Session(region_name=REGION)
    return session.client(service, endpoint_url=endpoint_url)


def _one_at_a_time(stack: Stack) -> None:
    """Limits parquet-writer to one invocation at a time.

    The emulator's poller and its queue API change a queue from two threads without a common lock, which loses or
    duplicates messages. The poller pauses while a function is at its concurrency limit, so the function can use the API.

    load-registrar does not use the queue API, and must not be limited: a batch that is delivered while the function answers
    a command would be throttled, and the emulator would hide it for the whole visibility timeout.
    """
    stack.client("lambda").put_function_concurrency(FunctionName=stack.outputs[WRITER], ReservedConcurrentExecutions=1)


def _migrated(stack: Stack) -> str:
    """Migrates the schema. Returns the migrations that were applied, as text."""
    migrated = stack.ask("migrate")
    return ", ".join(migrated["applied"]) or f"already at version {migrated['version']}"


def _env(stack: Stack) -> str:
    """For a shell that sources it: the tools, the fake account, the variables of the functions and of the documents."""
    functions = stack.client("lambda")
    variables = {**FAKE_ACCOUNT, "AWS_ENDPOINT_URL": stack.endpoint_url}
    for output in (output for output in stack.outputs if output.endswith("FunctionName")):
        described = functions.get_function_configuration(FunctionName=stack.outputs[output])
        variables |= described.get("Environment", {}).get("Variables", {})
    # The documents come last: two functions may have variables of one name.
    variables |= {name: stack.outputs[output] for name, output in DOCUMENTED.items() if output in stack.outputs}
    if stack.collect_url:
        variables["COLLECT_URL"] = stack.collect_url
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join(
        [
            "unset AWS_PROFILE AWS_SESSION_TOKEN",
            f'export PATH={shlex.quote(str(PROGRAMS))}:{shlex.quote(str(VENV / "bin"))}:"$PATH"',
            *lines,
            "",
        ]
    )


def recorded() -> Stack | None:
    """The stack that was deployed last, if it was not stopped."""
    try:
        return Stack(**json.loads(STACK_FILE.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _defaults() -> dict[str, str]:
    """All defaults, because a parameter that is not passed keeps the value of the previous deployment."""
    declared = yaml_parse(TEMPLATE.read_text())["Parameters"]
    return {name: str(parameter["Default"]) for name, parameter in declared.items()}


def _host_arch() -> str:
    machine = platform.machine().lower()
    return {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[machine]


def _pairs(parameters: Mapping[str, str]) -> list[str]:
    return [f'{name}="{value}"' for name, value in parameters.items()]


def _fingerprint(parameters: Mapping[str, str]) -> str:
    """A hash of everything that is deployed."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for path in sorted(path for path in BUILD.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(BUILD)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _outputs(endpoint_url: str) -> dict[str, str]:
    (described,) = _client("cloudformation", endpoint_url).describe_stacks(StackName=NAME)["Stacks"]
    if not described["StackStatus"].endswith("_COMPLETE"):
        raise Failure(f"The stack is {described['StackStatus']}. See .local/logs/deploy.log")
    return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
