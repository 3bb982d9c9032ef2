"""One version for the Python package, the template, the OpenAPI documents, the TypeScript client and the changelog."""

import json
import re
import tomllib

from billing import __version__
from billing.api.openapi import DOCUMENT_VERSION
from local.stack import ROOT
from tests.conftest import template

CLIENT = ROOT / "clients/typescript"
RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


def test_python_package_has_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__


def test_template_output_has_the_version() -> None:
    assert template()["Outputs"]["Version"]["Value"] == __version__


def test_openapi_documents_have_the_version() -> None:
    assert __version__ == DOCUMENT_VERSION


def test_typescript_client_has_the_version() -> None:
    package = json.loads((CLIENT / "package.json").read_text())
    lock = json.loads((CLIENT / "package-lock.json").read_text())
    assert [package["version"], lock["version"], lock["packages"][""]["version"]] == [__version__] * 3


def test_newest_release_in_the_changelog_has_the_version() -> None:
    releases = RELEASE.findall((ROOT / "CHANGELOG.md").read_text())
    assert releases[0][0] == __version__
    assert max(releases, key=lambda release: release[1]) == releases[0]
