"""The deployed stack, for scripts that try its template with other parameters."""

import json

import boto3

STACK = "landfall"
BUCKET = "landfall-artifacts"
KEY = "template-of-tests.yaml"
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
cloudformation = boto3.client("cloudformation")
PARAMETERS = {
    parameter["ParameterKey"]: parameter["ParameterValue"]
    for parameter in cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Parameters"]
}


def upload_template() -> str:
    """Puts the template of the stack into a bucket, because it is too long for a request. Returns its URL."""
    template = cloudformation.get_template(StackName=STACK, TemplateStage="Original")["TemplateBody"]
    text = template if isinstance(template, str) else json.dumps(template)
    boto3.client("s3").put_object(Bucket=BUCKET, Key=KEY, Body=text.encode())
    return f"{cloudformation.meta.endpoint_url}/{BUCKET}/{KEY}"
