"""Asks CloudFormation for updates of the deployed stack with other parameters, without carrying them out.

Standard input: JSON, a list of objects of parameters. Standard output: JSON, for each why it was refused, or null.
"""

import json
import sys
import time
import uuid

from botocore.exceptions import ClientError
from deployed import CAPABILITIES, PARAMETERS, STACK, cloudformation, upload_template

TEMPLATE_URL = upload_template()


def refusal(overrides: dict[str, str]) -> str | None:
    name = f"asked-{uuid.uuid4().hex}"
    parameters = [
        {"ParameterKey": key, "ParameterValue": overrides[key]}
        if key in overrides
        else {"ParameterKey": key, "UsePreviousValue": True}
        for key in PARAMETERS
    ]
    try:
        cloudformation.create_change_set(
            StackName=STACK,
            ChangeSetName=name,
            TemplateURL=TEMPLATE_URL,
            Parameters=parameters,
            Capabilities=CAPABILITIES,
        )
        while True:
            change_set = cloudformation.describe_change_set(StackName=STACK, ChangeSetName=name)
            if change_set["Status"] in ("CREATE_COMPLETE", "FAILED"):
                cloudformation.delete_change_set(StackName=STACK, ChangeSetName=name)
                return change_set["StatusReason"] if change_set["Status"] == "FAILED" else None
            time.sleep(0.2)
    except ClientError as error:
        return str(error)


print(json.dumps([refusal(overrides) for overrides in json.load(sys.stdin)]))
