"""What CloudFormation makes of `template.yaml`: as much of it as the dashboard needs."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from local.paths import TEMPLATE

PSEUDO = {"AWS::StackName": "landfall", "AWS::Region": "eu-west-1"}


class Template:
    """The template with values for some parameters. A resource, and each of its attributes, is its logical name."""

    def __init__(self, **values: str) -> None:
        text = TEMPLATE.read_text()
        self._template = yaml.load(text, Loader=_Loader)
        defaults = {name: str(parameter["Default"]) for name, parameter in self._template["Parameters"].items()}
        self._values = PSEUDO | defaults | values
        self.resources: Mapping[str, Any] = self._template["Resources"]
        resource = text.split("\n  StackDashboard:\n")[1].split("\nOutputs:\n")[0]
        self.dashboard_sha256 = hashlib.sha256(resource.encode()).hexdigest()

    def resolve(self, value: Any) -> Any:
        """The value without intrinsic functions."""
        match value:
            case {"Ref": name}:
                return self._values.get(name, name)
            case {"Fn::GetAtt": attribute}:
                return attribute.split(".")[0]
            case {"Fn::Sub": [text, variables]}:
                return self._substituted(text, variables)
            case {"Fn::Sub": text}:
                return self._substituted(text, {})
            case {"Fn::If": [condition, then, otherwise]}:
                return self.resolve(then if self.holds({"Condition": condition}) else otherwise)
            case {"Fn::FindInMap": [name, *keys]}:
                row, column = map(self.resolve, keys)
                return self._template["Mappings"][name][row][column]
            case dict():
                return {name: self.resolve(member) for name, member in value.items()}
            case list():
                return [self.resolve(member) for member in value]
        return value

    def holds(self, condition: Any) -> bool:
        """Whether a condition is true."""
        match condition:
            case {"Condition": name}:
                return self.holds(self._template["Conditions"][name])
            case {"Fn::Equals": [left, right]}:
                return str(self.resolve(left)) == str(self.resolve(right))
            case {"Fn::Not": [inner]}:
                return not self.holds(inner)
            case {"Fn::And": inner}:
                return all(map(self.holds, inner))
            case {"Fn::Or": inner}:
                return any(map(self.holds, inner))
        raise ValueError(f"unknown condition: {condition}")

    def _substituted(self, text: str, variables: Mapping[str, Any]) -> str:
        def of(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in variables:
                return str(self.resolve(variables[name]))
            return self._values.get(name, name.split(".")[0])

        return re.sub(r"\$\{([^}]+)\}", of, text)


class _Loader(yaml.SafeLoader):
    """Reads `!Sub x` as `{"Fn::Sub": x}`."""


def _intrinsic(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    match node:
        case yaml.SequenceNode():
            value: Any = loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            value = loader.construct_mapping(node, deep=True)
        case _:
            value = node.value
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _intrinsic)
