"""Where everything is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"
REQUIREMENTS = ROOT / "local" / "requirements.txt"
PEERS_REQUIREMENTS = ROOT / "bench" / "peers" / "requirements.txt"
FUNCTIONS = ROOT / "functions"
PROTO = ROOT / "proto"
CLIENTS = ROOT / "tests" / "clients"

STATE = ROOT / ".local"
VENV = STATE / "venv"
PEERS_VENV = STATE / "peers"
LOGS = STATE / "logs"
SAM_BUILD = STATE / "sam" / "build"
GENERATED_PROTO = STATE / "proto"
LAKE = STATE / "lake"
EMULATOR_FILE = STATE / "emulator.json"
POSTGRES_FILE = STATE / "postgres.json"
POSTGRES_HOME = STATE / "postgres"
STACK_FILE = STATE / "stack.json"
ENV_FILE = STATE / "env"
