"""The commands."""

import argparse
import shlex
import shutil
import sys

from local import environment
from local.paths import LAKE, STATE
from local.progress import Failure

NEEDS_LINUX = {
    *("up", "postgres", "demo", "demo-rabbitmq", "chaos", "consumer", "consumer-bench", "image"),
    *("backfill", "retail", "history", "test", "glue"),
}
NEEDS_NO_TOOLS = {"down", "clean", "check", "cost", "dashboard", "proto-check", "ddl", "warehouse"}
NEEDS_NO_RUST = {"down", "lake", "clean", "cost", "dashboard", "proto-check", "glue", "warehouse"}


def main(arguments: list[str]) -> int:
    """Runs one command and returns its exit code."""
    chosen = _parser().parse_args(arguments)
    environment.isolate()
    try:
        if chosen.command in NEEDS_LINUX and sys.platform != "linux":
            raise Failure("The local stack runs Linux binaries: use Linux, WSL or a Linux container.")
        if chosen.command not in NEEDS_NO_RUST and shutil.which("cargo") is None:
            raise Failure("Rust is missing: there is no cargo on the PATH. https://rustup.rs installs it.")
        if chosen.command not in NEEDS_NO_RUST and shutil.which("cc") is None:
            raise Failure(
                "A C compiler is missing: there is no cc on the PATH. On Debian: apt-get install gcc libc6-dev"
            )
        if chosen.command not in NEEDS_NO_TOOLS and not environment.entered():
            environment.enter(arguments)
        return _run(chosen)
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _setting(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as two texts."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return name, value


def _run(chosen: argparse.Namespace) -> int:
    """Commands are imported when chosen: most need packages of the private environment."""
    match chosen.command:
        case "up":
            from local import stack

            deployed = stack.up(dict(chosen.set))
            # On AWS, the value of this output is an address that does not resolve here.
            own = {"CollectUrl": deployed.collect_url} if deployed.collect_url else {}
            values = {"endpoint": deployed.endpoint_url, "postgres": deployed.postgres_url, **deployed.outputs, **own}
            width = max(map(len, values))
            print()
            for name, value in values.items():
                # Quoted, because a shell would take `$default` in an address for a variable.
                print(f"{name:<{width}}  {shlex.quote(value)}")
            print("\nThe endpoint takes AWS_ACCESS_KEY_ID=test and AWS_SECRET_ACCESS_KEY=test.")
            print(
                "It keeps running: `source .local/env` points a shell at it and puts `landfall` on the PATH, `make down` stops it."
            )
            return 0
        case "postgres":
            from local import postgres

            print(f"export LANDFALL_POSTGRES={postgres.ensure().url}")
            return 0
        case "lake":
            from local import lake

            return lake.run()
        case "down":
            print("The local stack is down." if _down() else "The local stack was not running.")
            return 0
        case "demo":
            from local import demo

            return demo.run(chosen.events, chosen.seed)
        case "chaos":
            from local.chaos import run as chaos

            return chaos.run(chosen.events, chosen.records, chosen.hits, chosen.objects, chosen.seed)
        case "demo-rabbitmq":
            from local import demo_rabbitmq

            return demo_rabbitmq.run(chosen.events, chosen.seed)
        case "consumer":
            from local import consumer, consumer_cases

            plan = consumer.Plan(chosen.messages, chosen.seed, queue_type=chosen.queue_type)
            return consumer_cases.run([*consumer_cases.CASES, *consumer_cases.LONG_CASES]) or consumer.run(plan)
        case "consumer-bench":
            from local import consumer_bench

            return consumer_bench.run(chosen.messages)
        case "backfill":
            from local import backfill

            return backfill.run(chosen.rows, chosen.kills, chosen.peer_rows, chosen.program)
        case "image":
            from local import image

            return image.run()
        case "retail":
            from local import retail

            return retail.run(chosen.events, chosen.layout)
        case "history":
            from local import history

            return history.run(chosen.events)
        case "readers":
            from local import readers

            names = [name for name in readers.READERS if name != "pyspark" or chosen.spark]
            return readers.run(names)
        case "lint":
            from local import checks

            return checks.lint()
        case "check":
            from local import checks

            return checks.check()
        case "proto-check":
            from local import breaking

            return breaking.run(chosen.against)
        case "ddl":
            from local import ddl

            return ddl.run()
        case "glue":
            from local import glue

            return glue.run()
        case "warehouse":
            from local import warehouse

            lake = ["--lake", chosen.lake] if chosen.lake else []
            if chosen.what == "test":
                return warehouse.test()
            if chosen.what == "airflow":
                return warehouse.airflow()
            return warehouse.run(chosen.what, *lake, *(["--fresh"] if chosen.fresh else []))
        case "test":
            from local import tests

            return tests.test()
        case "package":
            from local import package

            return package.run()
        case "dashboard":
            from local.dashboard import draw

            return draw.run()
        case "bench":
            from local import tests

            return tests.bench()
        case "cost":
            from local.cost import page

            return page.run(chosen.check)
        case "clean":
            _down()
            shutil.rmtree(STATE, ignore_errors=True)
            return 0
    raise AssertionError(chosen.command)


def _down() -> bool:
    """Whether anything was running. The emulator first, because its functions are clients of Postgres."""
    from local import emulator, postgres

    shutil.rmtree(LAKE, ignore_errors=True)
    return any([emulator.stop(), postgres.stop()])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="Landfall on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    up = commands.add_parser("up", help="start the emulator and Postgres, build, and deploy what has changed")
    up.add_argument("--set", action="append", default=[], type=_setting, metavar="NAME=VALUE", help="a parameter of template.yaml, until the next `make up`")
    commands.add_parser("postgres", help="start Postgres for the tests and print its address as a line for the shell")
    commands.add_parser("lake", help="copy the files of the running stack to .local/lake")
    commands.add_parser("down", help="stop the emulator and Postgres and forget their data")
    demo = commands.add_parser(
        "demo",
        help="seeded events and objects through the whole stack, counted at the other end; "
        "starts from an empty stack: what a running one holds is deleted",
    )
    demo.add_argument("--events", type=int, default=20_000, help="how many events (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=1, help="the same seed sends the same again (default: %(default)s)")
    chaos = commands.add_parser(
        "chaos", help="the same while sandboxes are killed, Postgres crashes and requests to AWS fail"
    )
    for what, number in {"events": 20_000, "records": 30_000, "hits": 5_000, "objects": 1_500}.items():
        chaos.add_argument(f"--{what}", type=int, default=number, help="how many (default: %(default)s)")
    chaos.add_argument("--seed", type=int, default=1, help="of what is sent and of the faults (default: %(default)s)")
    rabbitmq = commands.add_parser(
        "demo-rabbitmq", help="seeded events through a RabbitMQ, the consumer and the whole stack, counted at the other end"
    )
    rabbitmq.add_argument("--events", type=int, default=20_000, help="how many (default: %(default)s)")
    rabbitmq.add_argument("--seed", type=int, default=1, help="the same seed sends the same (default: %(default)s)")
    consumer = commands.add_parser(
        "consumer", help="messages through the consumer while broker, consumer and SQS fail, counted; needs RabbitMQ"
    )
    consumer.add_argument("--messages", type=int, default=50_000, help="how many (default: %(default)s)")
    consumer.add_argument("--seed", type=int, default=1, help="of messages and faults (default: %(default)s)")
    consumer.add_argument(
        "--queue-type", default="quorum", choices=("quorum", "classic"), help="of the queues (default: %(default)s)"
    )
    pair = commands.add_parser("consumer-bench", help="the consumer beside pika and boto3, on one RabbitMQ and one stub of SQS")
    pair.add_argument("--messages", type=int, default=60_000, help="how many (default: %(default)s)")
    backfill = commands.add_parser(
        "backfill", help="rows of the local Postgres through landfall backfill and a Python script, compared; then killed"
    )
    backfill.add_argument("--rows", type=int, default=500_000, help="how many (default: %(default)s)")
    backfill.add_argument("--peer-rows", type=int, default=0, help="how many the script takes (default: all)")
    backfill.add_argument("--kills", type=int, default=10, help="with SIGKILL (default: %(default)s)")
    backfill.add_argument("--program", help="the command to run, instead of compiling it")
    commands.add_parser("image", help="the container image of the consumer, by buildah, in target/image/")
    retail = commands.add_parser("retail", help="real retail transactions through the whole stack, compared one by one")
    retail.add_argument("--events", type=int, default=20_000, help="how many (default: %(default)s)")
    retail.add_argument(
        "--layout", default="together", choices=("together", "by-type"), help="of the files (default: %(default)s)"
    )
    history = commands.add_parser(
        "history", help="real retail transactions, the older half from Postgres and the newer through the queue, to the marts"
    )
    history.add_argument("--events", type=int, default=20_000, help="how many (default: %(default)s)")
    readers = commands.add_parser("readers", help="files of twelve versions of the schema, read by name and compared")
    readers.add_argument("--spark", action="store_true", help="with Spark too, which is 500 MB and needs Java")
    commands.add_parser("check", help="formatting, clippy, and every test that needs nothing but the code")
    commands.add_parser(
        "lint", help="formatting, the template, proto/, clippy, and licences if cargo-deny is installed"
    )
    proto_check = commands.add_parser("proto-check", help="what the changes of proto/ would break")
    proto_check.add_argument(
        "against", nargs="?", default="", help="a git ref, or a folder like proto/ (default: the last release)"
    )
    commands.add_parser("ddl", help="parse the recorded scripts of `landfall ddl`, and execute those for DuckDB")
    commands.add_parser("glue", help="test the Spark job with Spark on this machine, which is 500 MB and needs Java")
    warehouse = commands.add_parser(
        "warehouse", help="run the models of warehouse/ on .local/lake in an embedded DuckDB, and write .local/report"
    )
    warehouse.add_argument(
        "what",
        nargs="?",
        default="build",
        choices=("build", "classified", "compare", "test", "airflow"),
        help="test: the models on a lake of their own; airflow: runs of the DAG with a real Airflow and a mail server, four minutes; "
        "compare: build, and recount in plain Python; classified: the columns with personal values (default: %(default)s)",
    )
    warehouse.add_argument("--lake", help="a folder with files as in .local/lake (default: that one)")
    warehouse.add_argument(
        "--fresh", action="store_true", help="begin with an empty warehouse, as after a change of columns"
    )
    commands.add_parser("test", help="lint, then every test, with the stack deployed to the emulator")
    commands.add_parser("package", help="zips of every function for AWS, their checksums and bill of materials")
    commands.add_parser("dashboard", help="draw docs/dashboard.svg, the dashboard of template.yaml with demo data")
    commands.add_parser("bench", help="the benchmarks and their peers")
    cost = commands.add_parser("cost", help="compute what Landfall costs on AWS, and write it into docs/cost.md")
    cost.add_argument("--check", action="store_true", help="write nothing, and fail if docs/cost.md is out of date")
    commands.add_parser("clean", help="down, and delete .local/")
    return parser
