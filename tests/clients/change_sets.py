"""Asks CloudFormation for updates of the deployed stack with other parameters, without carrying them out.

Standard input: JSON, a list of objects of parameters. Standard output: JSON, for each why it was refused, or null.
"""

import json
import sys
import time
import uuid

import boto3
from botocore.exceptions import ClientError

STACK = "landfall"
BUCKET = "landfall-artifacts"
KEY = "template-of-change-sets.yaml"
cloudformation = boto3.client("cloudformation")
template = cloudformation.get_template(StackName=STACK, TemplateStage="Original")["TemplateBody"]
boto3.client("s3").put_object(
    Bucket=BUCKET, Key=KEY, Body=(template if isinstance(template, str) else json.dumps(template)).encode()
)
current = {
    parameter["ParameterKey"]: parameter["ParameterValue"]
    for parameter in cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Parameters"]
}


def refusal(overrides: dict[str, str]) -> str | None:
    name = f"asked-{uuid.uuid4().hex}"
    parameters = [
        {"ParameterKey": key, "ParameterValue": overrides[key]}
        if key in overrides
        else {"ParameterKey": key, "UsePreviousValue": True}
        for key in current
    ]
    try:
        cloudformation.create_change_set(
            StackName=STACK,
            ChangeSetName=name,
            TemplateURL=f"{cloudformation.meta.endpoint_url}/{BUCKET}/{KEY}",
            Parameters=parameters,
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
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
