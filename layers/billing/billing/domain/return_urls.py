"""Where a browser may be sent back to: never to a place that the deployment does not name."""

from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

from billing.domain.errors import RequestInvalid

URL_LENGTH_MAX = 2048


def resolve_return_url(field: str, url: str | None, default: str, allowed_origins: Sequence[str]) -> str:
    """`url`, or `default` if there is none, as an absolute URL; relative ones are of the first allowed origin.

    Raises RequestInvalid at `field` for another origin and for what only some parsers take for one of ours.
    """
    wanted = default if url is None else url
    if len(wanted) > URL_LENGTH_MAX or not wanted.isascii() or not wanted.isprintable() or set(wanted) & {"\\", " "}:
        raise RequestInvalid.at(field, f"must be a URL of at most {URL_LENGTH_MAX} visible ASCII characters")
    try:
        is_relative = not urlsplit(wanted).scheme and not wanted.startswith("//")
        absolute = urljoin(f"{allowed_origins[0]}/", wanted) if is_relative else wanted
        parts = urlsplit(absolute)
    except ValueError:
        raise RequestInvalid.at(field, "is not a URL") from None
    parts = parts._replace(netloc=parts.netloc.lower())
    if f"{parts.scheme}://{parts.netloc}" not in allowed_origins:
        raise RequestInvalid.at(field, f"must be on an allowed origin: {', '.join(allowed_origins)}")
    return parts.geturl()
