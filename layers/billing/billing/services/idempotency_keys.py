"""Idempotency keys of requests to Stripe, after a failure.

Stripe stores its answer to the first request with a key, also an error, and replays it for 24 hours. The keys are
derived from the version of the account's profile, which every write increments:

| attempt | profile | next attempt |
|---|---|---|
| not answered, such as after a timeout | unchanged | same key: Stripe may have done what was requested |
| answered with an error | written again | another key |

The version needs no lock. Concurrent requests read one version, derive one key and receive one answer, and one of them
writes the profile. If a process ends before that write, the next attempt receives the replayed error and writes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from billing.adapters.repository import Repository, VersionConflict
from billing.domain.accounts import Profile
from billing.domain.errors import StripeFailed


@contextmanager
def next_key_after_error(repository: Repository, profile: Profile) -> Iterator[None]:
    """Write the profile again if Stripe answers with an error, so that its version and the keys derived from it change.

    The error of the request itself has to leave the block. The error of a later request must not replace it.

    Args:
        repository: Repository of the profile.
        profile: Profile that the key of the request was derived from.

    Raises:
        StripeFailed: The error of the request.
    """
    try:
        yield
    except StripeFailed as error:
        if error.is_answered:
            # After a conflict, another writer has incremented the version.
            with suppress(VersionConflict):
                repository.save_profile(profile)
        raise
