"""Creates stacks with the template of the deployed one and other parameters, and deletes them again.

Standard input: JSON, a list of objects of parameters. Standard output: JSON, for each how the creation ended and the types of the
resources by their logical names.
"""

import json
import sys
import time
import uuid

import boto3

BUCKET = "landfall-artifacts"
KEY = "template-of-subsets.yaml"
cloudformation = boto3.client("cloudformation")
template = cloudformation.get_template(StackName="landfall", TemplateStage="Original")["TemplateBody"]
boto3.client("s3").put_object(
    Bucket=BUCKET, Key=KEY, Body=(template if isinstance(template, str) else json.dumps(template)).encode()
)
deployed = cloudformation.describe_stacks(StackName="landfall")["Stacks"][0]["Parameters"]


def create(overrides: dict[str, str]) -> dict[str, object]:
    # What is retained keeps its name, so every stack has names of its own.
    name = f"subset-{uuid.uuid4().hex[:8]}"
    values = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in deployed}
    values |= {"LakeBucketPrefix": f"{name}-lake", "IncomingBucketPrefix": f"{name}-incoming", **overrides}
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=f"{cloudformation.meta.endpoint_url}/{BUCKET}/{KEY}",
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    while (stack := cloudformation.describe_stacks(StackName=name)["Stacks"][0])["StackStatus"] in (
        "CREATE_IN_PROGRESS",
        "REVIEW_IN_PROGRESS",
    ):
        time.sleep(0.2)
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    resources = {
        resource["LogicalResourceId"]: resource["ResourceType"]
        for page in pages
        for resource in page["StackResourceSummaries"]
    }
    cloudformation.delete_stack(StackName=name)
    return {
        "status": f"{stack['StackStatus']} {stack.get('StackStatusReason', '')}".strip(),
        "resources": resources,
    }


print(json.dumps([create(overrides) for overrides in json.load(sys.stdin)]))
