"""Return URLs of checkout and portal, restricted to the deployment's allowed origins."""

from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

from billing.domain.errors import RequestInvalid

URL_LENGTH_MAX = 2048


def resolve_return_url(field: str, url: str | None, default: str, allowed_origins: Sequence[str]) -> str:
    """Return the absolute URL to which Stripe sends the browser back.

    Args:
        field: Request field of the URL, named in errors.
        url: URL of the request.
        default: URL if the request has none.
        allowed_origins: Origins that the URL may have. A relative URL is resolved against the first one.

    Raises:
        RequestInvalid: The URL has another origin, is malformed, or contains characters that URL parsers interpret
            differently.
    """
    requested = default if url is None else url
    if len(requested) > URL_LENGTH_MAX or not _is_visible_ascii(requested) or "\\" in requested:
        raise RequestInvalid.at(field, f"must be a URL of at most {URL_LENGTH_MAX} visible ASCII characters")
    try:
        is_relative = not urlsplit(requested).scheme and not requested.startswith("//")
        absolute = urljoin(f"{allowed_origins[0]}/", requested) if is_relative else requested
        parts = urlsplit(absolute)
    except ValueError:
        raise RequestInvalid.at(field, "is not a URL") from None
    parts = parts._replace(netloc=parts.netloc.lower())
    if f"{parts.scheme}://{parts.netloc}" not in allowed_origins:
        raise RequestInvalid.at(field, f"must be on an allowed origin: {', '.join(allowed_origins)}")
    return parts.geturl()


def _is_visible_ascii(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value
