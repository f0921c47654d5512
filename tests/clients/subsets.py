"""Creates stacks with the template of the deployed one and other parameters, and deletes them again.

Standard input: JSON, a list of objects of parameters. Standard output: JSON, for each how the creation ended, the types of the
resources by their logical names, their physical names, and the body of the dashboard, or null.
"""

import json
import sys
import time
import uuid

import boto3
from deployed import CAPABILITIES, PARAMETERS, cloudformation, upload_template

TEMPLATE_URL = upload_template()


def create(overrides: dict[str, str]) -> dict[str, object]:
    # What is retained keeps its name, so every stack has names of its own.
    name = f"subset-{uuid.uuid4().hex[:8]}"
    own = {"LakeBucketPrefix": f"{name}-lake", "IncomingBucketPrefix": f"{name}-incoming"}
    values = PARAMETERS | own | overrides
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=TEMPLATE_URL,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
        Capabilities=CAPABILITIES,
    )
    while (stack := cloudformation.describe_stacks(StackName=name)["Stacks"][0])["StackStatus"] in (
        "CREATE_IN_PROGRESS",
        "REVIEW_IN_PROGRESS",
    ):
        time.sleep(0.2)
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
    dashboards = [resource for resource in resources if resource["ResourceType"] == "AWS::CloudWatch::Dashboard"]
    bodies = [
        boto3.client("cloudwatch").get_dashboard(DashboardName=dashboard["PhysicalResourceId"])["DashboardBody"]
        for dashboard in dashboards
    ]
    cloudformation.delete_stack(StackName=name)
    return {
        "status": f"{stack['StackStatus']} {stack.get('StackStatusReason', '')}".strip(),
        "resources": {resource["LogicalResourceId"]: resource["ResourceType"] for resource in resources},
        "names": [resource["PhysicalResourceId"] for resource in resources],
        "dashboard": bodies[0] if bodies else None,
    }


print(json.dumps([create(overrides) for overrides in json.load(sys.stdin)]))
