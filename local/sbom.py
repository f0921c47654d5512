"""Writes a CycloneDX bill of materials of what is compiled into the functions: `python -m local.sbom FILE`.

Runs in the environment of `make package`, which has the CycloneDX library.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL


def main(path: Path) -> None:
    """Describes every crate that a function is linked with, and who depends on whom."""
    metadata = _metadata()
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: _linked(node) for node in metadata["resolve"]["nodes"]}
    functions = [package for package in metadata["packages"] if "/functions/" in package["manifest_path"]]
    reached = _reached([package["id"] for package in functions], nodes)
    components = {id_: _component(packages[id_]) for id_ in reached}

    bom = Bom(components=components.values())
    bom.metadata.component = Component(name="landfall", version=functions[0]["version"], type=ComponentType.APPLICATION)
    bom.register_dependency(bom.metadata.component, [components[package["id"]] for package in functions])
    for id_ in reached:
        bom.register_dependency(components[id_], [components[needed] for needed in nodes[id_] if needed in components])
    outputter = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    path.write_text(outputter.output_as_string(indent=2) + "\n")


def _metadata() -> dict[str, Any]:
    asked = ["cargo", "metadata", "--format-version", "1", "--locked"]
    return json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)


def _linked(node: dict[str, Any]) -> list[str]:
    """Dependencies that are linked; those of build scripts and tests are not."""
    return [needed["pkg"] for needed in node["deps"] if any(kind["kind"] is None for kind in needed["dep_kinds"])]


def _reached(start: list[str], nodes: dict[str, list[str]]) -> list[str]:
    found, waiting = set(), list(start)
    while waiting:
        id_ = waiting.pop()
        if id_ not in found:
            found.add(id_)
            waiting.extend(nodes[id_])
    return sorted(found)


def _component(package: dict[str, Any]) -> Component:
    licenses = [LicenseFactory().make_from_string(package["license"])] if package["license"] else []
    own = package["source"] is None
    return Component(
        bom_ref=f"{package['name']}@{package['version']}",
        name=package["name"],
        version=package["version"],
        type=ComponentType.APPLICATION if own else ComponentType.LIBRARY,
        purl=None if own else PackageURL("cargo", name=package["name"], version=package["version"]),
        licenses=licenses,
    )


main(Path(sys.argv[1]))
