"""Which customer becomes whose in an import."""

from dataclasses import replace

import pytest

from billing.domain.accounts import Profile
from billing.stripe_events.customer_links import METADATA, Link, Wish, decide

WISH = Wish("cus_1", "acme", None, "line 2")
ACME = Profile("acme", version=1)


@pytest.mark.parametrize(
    ("owner", "profile", "rivals", "link", "reason"),
    [
        (None, None, {"cus_1"}, Link.CREATED, None),
        (None, ACME, {"cus_1"}, Link.LINKED, None),
        ("acme", Profile("acme", version=1, customer_id="cus_1"), {"cus_1"}, Link.UNCHANGED, None),
        ("acme", Profile("acme", version=1, customer_id="cus_1"), {"cus_1", "cus_2"}, Link.UNCHANGED, None),
        ("acme", Profile("acme", version=1, customer_id="cus_2"), {"cus_1"}, Link.UNCHANGED, None),
        ("acme", ACME, {"cus_1"}, Link.LINKED, None),
        ("globex", ACME, {"cus_1"}, Link.SKIPPED, "it belongs to the account globex"),
        ("globex", None, {"cus_1"}, Link.SKIPPED, "it belongs to the account globex"),
        (
            None,
            Profile("acme", version=1, customer_id="cus_2"),
            {"cus_1"},
            Link.SKIPPED,
            "the account acme has the customer cus_2",
        ),
        (None, None, {"cus_1", "cus_3", "cus_2"}, Link.SKIPPED, "the account acme is also to have cus_2, cus_3"),
        (None, ACME, {"cus_1", "cus_2"}, Link.SKIPPED, "the account acme is also to have cus_2"),
    ],
)
def test_what_becomes_of_a_wish(
    owner: str | None, profile: Profile | None, rivals: set[str], link: Link, reason: str | None
) -> None:
    """Nobody's customer is taken away, no account gets two, and where two are wanted neither is."""
    decision = decide(WISH, owner, profile, [replace(WISH, customer_id=each) for each in rivals])
    assert (decision.wish, decision.link, decision.reason) == (WISH, link, reason)


@pytest.mark.parametrize(
    ("origin", "others_origin", "link"),
    [
        ("line 2", METADATA, Link.CREATED),
        (METADATA, "line 2", Link.SKIPPED),
        ("line 2", "line 3", Link.SKIPPED),
        (METADATA, METADATA, Link.SKIPPED),
    ],
)
def test_a_file_counts_more_than_metadata(origin: str, others_origin: str, link: Link) -> None:
    """Of two customers for one account the file's gets it; where both are told in one way, neither does."""
    wish, other = replace(WISH, origin=origin), Wish("cus_2", "acme", None, others_origin)
    assert decide(wish, None, None, [wish, other]).link is link
