"""The command: everything is sent while things go wrong, and counted when they no longer do."""

from rich.console import Console

from local import build, emulator, postgres, protos, queues, stack
from local.chaos import paths
from local.chaos.count import table, write_doubles
from local.chaos.faults import Faults
from local.chaos.proxy import Proxy
from local.paths import LOGS
from local.progress import step

# Short, because what a killed function held comes back only when its visibility timeout is over.
PARAMETERS = {"FunctionTimeoutSeconds": "30", "WriterDrainMaxSeconds": "1", "CollectToLake": "false"}
UNTOUCHED = "dmap-fetch"  # nothing of what is sent goes through it
DOUBLES_FILE = LOGS / "chaos-doubles.ndjson"


def run(events: int, records: int, hits: int, objects: int, seed: int) -> int:
    """Runs it on a stack of its own. 0 if nothing is lost, and nothing is doubled that must not be."""
    protos.ensure()
    try:
        deployed = stack.up(PARAMETERS, commands=[], fresh=True)
        proxy = Proxy(deployed.endpoint_url, seed)
        _lead_through(proxy, deployed)
        faults = Faults(deployed, proxy, seed)
        with deployed.without_ticks(stack.INGESTER):  # the last path ticks
            counts = [
                paths.events(deployed, events, seed, faults),
                paths.hits(deployed, hits, seed, faults),
                paths.records(deployed, records, seed, faults),
                paths.objects(deployed, objects, seed, faults),
                paths.ingested(deployed, objects // 10, seed, faults),
            ]
    finally:  # Nobody else could use a stack that leads to the proxy.
        emulator.stop()
        postgres.stop()
    console = Console()
    doubles = write_doubles(counts, DOUBLES_FILE)
    console.print(*faults.tables(), table(counts))
    wrong = [sentence for count in counts for sentence in count.wrong()]
    wrong.extend(faults.missing([name for name in build.functions() if name != UNTOUCHED]))
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


def _lead_through(proxy: Proxy, deployed: stack.Stack) -> None:
    """Leads the functions' requests through the proxy, and ends the emulator's mappings."""
    functions, sqs = deployed.client("lambda"), deployed.client("sqs")
    with step("Putting a proxy between the functions and the emulator"):
        for name, value in deployed.outputs.items():
            if name.endswith("MappingId"):
                functions.update_event_source_mapping(UUID=value, Enabled=False)
            if name.endswith("FunctionName"):
                variables = functions.get_function_configuration(FunctionName=value)["Environment"]["Variables"]
                functions.update_function_configuration(
                    FunctionName=value, Environment={"Variables": {**variables, **proxy.variables()}}
                )
        functions.delete_function_concurrency(FunctionName=deployed.outputs[stack.WRITER])
        for feed in (queues.EVENTS, queues.PUTS, queues.LOADS):
            attributes = {"VisibilityTimeout": str(paths.VISIBILITY_S)}
            sqs.set_queue_attributes(QueueUrl=deployed.outputs[feed.queue], Attributes=attributes)
