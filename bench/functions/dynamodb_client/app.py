"""The floor of every function that uses DynamoDB: importing botocore and making one client, and no call."""

import botocore.session

dynamodb = botocore.session.get_session().create_client("dynamodb")


def handler(_event: object, _context: object) -> dict[str, int]:
    """Answer without doing anything."""
    return {"statusCode": 200}
