"""The command: everything is sent while things go wrong, and counted when they no longer do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from local import build, protos, queues, stack
from local.chaos import paths
from local.chaos.count import table, write_doubles
from local.chaos.faults import Faults
from local.chaos.proxy import Proxy
from local.paths import LOGS
from local.progress import step

# Short, because what a killed function held comes back only when its visibility timeout is over.
PARAMETERS = {"FunctionTimeoutSeconds": "30", "WriterDrainMaxSeconds": "1", "CollectToLake": "false"}
DOUBLES_FILE = LOGS / "chaos-doubles.ndjson"


def run(events: int, records: int, hits: int, objects: int, seed: int) -> int:
    """Runs it. 0 if nothing is lost, and nothing is doubled that must not be."""
    protos.ensure()
    deployed = stack.up(PARAMETERS, commands=[], fresh=True)
    console = Console()
    proxy = Proxy(deployed.endpoint_url, seed)
    try:
        with _through(deployed, proxy):
            faults = Faults(deployed, proxy, seed)
            counts = [
                paths.events(deployed, events, seed, faults),
                paths.hits(deployed, hits, seed, faults),
                paths.records(deployed, records, seed, faults),
                paths.objects(deployed, objects, seed, faults),
            ]
    finally:
        proxy.close()
    doubles = write_doubles(counts, DOUBLES_FILE)
    console.print(*faults.tables(), table(counts))
    wrong = [sentence for count in counts for sentence in count.wrong()]
    wrong.extend(faults.missing(build.functions()))
    for sentence in wrong:
        console.print(sentence, style="red", highlight=False, soft_wrap=True)
    if not wrong:
        sent = sum(len(count.sent) for count in counts)
        console.print(
            f"Seed {seed}: {sent:,} sent = landed + quarantined + in a dead-letter queue; nothing is lost.",
            style="green",
            highlight=False,
            soft_wrap=True,
        )
    if doubles:
        where = DOUBLES_FILE.relative_to(build.ROOT)
        console.print(f"{doubles:,} landed more than once; {where} names them and where they are.", highlight=False)
    return 1 if wrong else 0


@contextmanager
def _through(deployed: stack.Stack, proxy: Proxy) -> Iterator[None]:
    """Leads the functions' requests through the proxy, and replaces the emulator's mappings. Undone at the end."""
    functions = deployed.client("lambda")
    names = [deployed.outputs[name] for name in deployed.outputs if name.endswith("FunctionName")]
    mappings = [deployed.outputs[name] for name in deployed.outputs if name.endswith("MappingId")]
    timeouts = {url: _visibility(deployed, url) for url in _queues(deployed)}
    variables = {
        name: functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"] for name in names
    }
    with step("Putting the proxy between the functions and the emulator"):
        for mapping in mappings:
            functions.update_event_source_mapping(UUID=mapping, Enabled=False)
        for name in names:
            _configure(functions, name, {**variables[name], **proxy.variables()})
        functions.delete_function_concurrency(FunctionName=deployed.outputs[stack.WRITER])
        for url in timeouts:
            _set_visibility(deployed, url, paths.VISIBILITY_S)
    try:
        yield
    finally:
        with step("Taking the proxy away"):
            for name in names:
                _configure(functions, name, variables[name])
            stack.one_at_a_time(deployed)
            for url, seconds in timeouts.items():
                _set_visibility(deployed, url, seconds)
            for mapping in mappings:
                functions.update_event_source_mapping(UUID=mapping, Enabled=True)


def _configure(functions: Any, name: str, variables: dict[str, str]) -> None:
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def _queues(deployed: stack.Stack) -> list[str]:
    return [deployed.outputs[feed.queue] for feed in (queues.EVENTS, queues.PUTS)]


def _visibility(deployed: stack.Stack, url: str) -> int:
    answer = deployed.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    return int(answer["Attributes"]["VisibilityTimeout"])


def _set_visibility(deployed: stack.Stack, url: str, seconds: int) -> None:
    deployed.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})
