"""Vocabulary: retired words stay retired, one type name means one thing, docstrings follow the style guide.

CONTRIBUTING.md has the rules, docs/glossary.md the terms in use.
"""

import ast
import io
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack import ROOT

PRODUCT_FOLDERS = ("layers", "functions", "cli", "stripe_simulator", "local")
ALL_FOLDERS = (*PRODUCT_FOLDERS, "bench", "tests")

# Retired identifier -> term in use. One line per term, so that a failure names the replacement.
RETIRED = {
    "About": "OperationDeclaration",
    "Allowance": "RateLimitStatus",
    "EventMarker": "ProcessedEvent",
    "FACTS": "response schema",
    "Facts": "ResponseData",
    "Finding": "Discrepancy",
    "INCLUDED": "NO_CHANGE",
    "KeyedRequest": "IdempotentRequest",
    "LATE": "LATE_EVENT_THRESHOLD",
    "MENDING_ID": "REPAIR_ID_PREFIX",
    "MISMATCHED": "CUSTOMER_CONFLICT",
    "NONSENSE": "MALFORMED_RESPONSE_ERRORS",
    "Notice": "ParsedEvent",
    "OF_NOBODY": "UNASSIGNED",
    "OLD": "MAX_SNAPSHOT_AGE",
    "PATIENCE_SECONDS": "PAGE_TIME_BUDGET_SECONDS",
    "PAYING": "needs_billing_role",
    "PacedClient": "RateLimitedHttpClient",
    "Payments": "StripeGateway",
    "READERS": "EVENT_PARSERS",
    "REASONS": "ERROR_DESCRIPTIONS",
    "SCHEMES": "SECURITY_SCHEMES",
    "SETTLED": "EventOutcome.is_final",
    "SKEW": "CLOCK_SKEW",
    "Shape": "Envelope",
    "Sighting": "StoredObject",
    "Store": "Repository",
    "TOLD_BY_ID": "ID_ONLY_TYPES",
    "TRANSLATION": "ERROR_MAP",
    "UNMATCHED": "UNKNOWN_CUSTOMER",
    "UNWRITABLE": "CONTROL_CHARACTERS",
    "UsageLedger": "UsageRepository",
    "Wish": "LinkRequest",
    "_Reception": "RequestPipeline",
    "_Rising": "_Startup",
    "_admit": "_rate_limit_and_load",
    "_alarm_again": "_re_emit_alarms",
    "_concluded": "_ended_on_404",
    "_its": "_require_same_id",
    "_learned": "_merge_conflict",
    "_or_none": "_none_if_not_found",
    "_payer": "_limit_partition_key",
    "_persistently": "_retry_on_conflict",
    "_tell": "_report",
    "_that_differ": "_find_differing",
    "_told": "_report",
    "_translated": "_map_errors",
    "agenda": "scheduler",
    "blanks": "default_fields",
    "bring_about": "apply",
    "counts_against": "conflicts_with",
    "decide_all": "plan_links",
    "disagrees": "metadata_conflicts",
    "explained": "map_stripe_errors",
    "facts_of": "as_dict",
    "in_callers_words": "with_request_field_names",
    "intake": "bootstrap",
    "is_due": "should_process",
    "is_foreign": "is_out_of_scope",
    "is_news": "has_changes",
    "is_read": "is_authoritative",
    "lent": "exposed_ports",
    "may_pay": "can_manage_billing",
    "names_only": "fetch_required",
    "openapi_terms": "openapi_descriptions",
    "patiently": "retry_stripe",
    "promises": "invariants",
    "read_notice": "parse_event",
    "removals": "ablations",
    "reporting": "command_output",
    "settle": "derive_fields, run_due",
    "sightings": "ordering",
    "silenced": "suppress_logs",
    "spoil": "corrupt, inject",
    "swept": "full_sync_at",
    "taken_up": "acquire_lease",
    "troubles": "fault_injection",
    "turned": "advance_page",
    "used_at_most": "max_current",
    "without_step": "skip_phase",
}

QUESTION_WORDS = ("What", "Whether", "Whose", "Which", "How", "Who", "When", "Where", "Why")


def files_in(*folders: str) -> list[Path]:
    """Return the Python files below folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def names_of(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every name in a file with its line, docstrings and comments aside."""
    yield path.stem, 0
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.string, token.start[0]


@pytest.mark.parametrize("folder", ALL_FOLDERS)
def test_identifiers_contain_no_retired_word(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name} → {RETIRED[name]}"
        for path in files_in(folder)
        if path != Path(__file__)
        for name, line in names_of(path)
        if name in RETIRED
    ]
    assert found == []


def test_type_names_are_unique_in_product_code() -> None:
    places = defaultdict(list)
    for path in files_in(*PRODUCT_FOLDERS):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
            if isinstance(node, ast.TypeAlias) and isinstance(node.name, ast.Name):
                places[node.name.id].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


@pytest.mark.parametrize("folder", ALL_FOLDERS)
def test_docstrings_do_not_begin_with_a_question_word(folder: str) -> None:
    found = []
    for path in files_in(folder):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node) or ""
                if docstring.startswith(QUESTION_WORDS) and docstring.split()[0].rstrip(",:") in QUESTION_WORDS:
                    found.append(f"{path.relative_to(ROOT)}:{node.body[0].lineno}: {docstring.splitlines()[0]}")
    assert found == []
