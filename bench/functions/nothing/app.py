"""Cost of the interpreter alone."""


def handler(_event: object, _context: object) -> dict[str, int]:
    """Return 200."""
    return {"statusCode": 200}
