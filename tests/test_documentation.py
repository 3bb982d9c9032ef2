"""Documentation: links resolve, titles are topics, and the architecture page names what exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "clients/typescript/README.md"])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
README_LINES_MAX = 199


def page_id(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """Return a page without its code blocks."""
    return CODE_BLOCK.sub("", page.read_text())


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub derives them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall(text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and linked.suffix == ".md" and anchor not in anchors_of(linked)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_page_title_is_a_topic(page: Path) -> None:
    title = page.read_text().splitlines()[0]
    assert title.startswith("# ")
    assert not title.endswith("?")


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX


@pytest.mark.parametrize("page", [page for page in PAGES if "docs" in page.parts], ids=page_id)
def test_every_page_is_linked_from_another(page: Path) -> None:
    linked = {
        (other.parent / target.partition("#")[0]).resolve()
        for other in PAGES
        if other != page
        for target in LINK.findall(text_of(other))
        if not re.match(r"[a-z]+:", target)
    }
    assert page in linked


def decisions() -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each row of the table "Where is … decided?": question, modules, names."""
    table = (ROOT / "docs/explanation/architecture.md").read_text().partition("## Where is … decided?")[2]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and "`" in cells[1]:
            yield cells[0], re.findall(r"`([^`]+)`", cells[1]), re.findall(r"`([^`]+)`", cells[2])


@pytest.mark.parametrize(("question", "modules", "names"), list(decisions()), ids=lambda value: str(value)[:60])
def test_architecture_page_names_existing_code(question: str, modules: list[str], names: list[str]) -> None:
    files = [
        path
        for module in modules
        for folder in ("layers/billing/billing", "cli", ".")
        for path in ([*(ROOT / folder).rglob(module)] if folder != "." else [ROOT / module])
        if path.is_file()
    ]
    assert files, question
    source = "\n".join(path.read_text() for path in files)
    for name in names:
        assert re.search(rf"\b{re.escape(name.rpartition('.')[2])}\b", source), name
