"""Whatever documents point to exists, in the repository and in the starter."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from cs285.grading.starter.student_version import make_student_version

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(
    r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)"  # [text](target "title"), pictures too
    r"|^ *\[[^\]]+\]:\s*(\S+)"  # [name]: target
    r"|(?:src|href)=\"([^\"]+)\"",
    re.MULTILINE,
)
FOREIGN = re.compile(r"[a-z]+:", re.IGNORECASE)
MENTIONED = re.compile(r"\b(?:docs|cs285/scripts)/[\w/]+\.(?:md|png|py)\b")
EXPERIMENTS = re.compile(r"\bexperiments/\w+/[\w.*]+\.yaml\b")
CREATED = re.compile(r"^<!-- file: (\S+) -->$", re.MULTILINE)  # by following a recipe
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", params=["repository", "starter"])
def tree(request, tmp_path_factory):
    if request.param == "repository":
        return ROOT
    folder = tmp_path_factory.mktemp("starter") / "hw5"
    make_student_version(ROOT, folder)
    return folder


def files(tree, pattern):
    """Returns files, except hidden ones and those that runs or builds write."""
    produced = ("data/hw5_", "build/", "dist/", "report/")
    found = [(path, path.relative_to(tree)) for path in sorted(tree.rglob(pattern))]
    return [
        path
        for path, name in found
        if path.is_file()
        and not any(part.startswith(".") or part.endswith(".egg-info") for part in name.parts)
        and not name.as_posix().startswith(produced)
    ]


def targets(text):
    """Returns the targets of all links of a Markdown page; code has none."""
    return ["".join(found) for found in LINK.findall(CODE.sub("", text))]


def anchors(text):
    """Returns the names of headings as GitHub and GitLab make them."""
    text = CODE.sub(lambda code: code[0].strip("`"), text)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(tree, page):
    """Returns the targets of a page that do not exist."""
    problems = []
    for target in targets(page.read_text()):
        if FOREIGN.match(target):
            continue
        name, _, anchor = unquote(target).partition("#")
        path = (page.parent / name).resolve() if name else page
        there = path.exists() and path.is_relative_to(tree.resolve())
        if not there or (anchor and anchor not in anchors(path.read_text())):
            problems.append(target)
    return problems


def test_every_link_and_picture_of_every_page_exists(tree):
    pages = files(tree, "*.md")
    assert tree / "README.md" in pages
    assert {str(page): broken(tree, page) for page in pages if broken(tree, page)} == {}


def test_pages_and_scripts_that_any_file_names_exist(tree):
    """Help, docstrings and comments name them by their path from the root."""
    texts = [path for ending in ("*.md", "*.py", "*.sh", "*.yaml") for path in files(tree, ending)]
    made = set(CREATED.findall((ROOT / "CONTRIBUTING.md").read_text()))
    absent = {
        (str(path.relative_to(tree)), name)
        for path in texts
        if path.relative_to(tree).parts[0] != "tests"
        for name in MENTIONED.findall(path.read_text())
        if not (tree / name).is_file() and name not in made
    }
    assert absent == set()


def test_every_experiment_of_a_printed_command_exists(tree):
    commands = "".join("".join(BLOCK.findall(page.read_text())) for page in files(tree, "*.md"))
    experiments = set(EXPERIMENTS.findall(commands))
    assert len(experiments) > 5
    assert [name for name in experiments if not list(tree.glob(name))] == []


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    (tmp_path / "there.md").write_text("# A heading, `code` too\n")
    page.write_text(
        '[a](../there.md) [b](../there.md#a-heading-code-too) ![c](no.png "t") `[d](no.md)`\n'
        "[e](../there.md#nothing) [f](#here) [g](https://example.org/x) [h](../../outside.md)\n\n"
        '```\n[i](no.md)\n```\n\n## Here\n\n<img src="none.svg">\n\n[j]: gone.md\n'
    )
    (tmp_path.parent / "outside.md").touch()
    expected = ["no.png", "../there.md#nothing", "../../outside.md", "none.svg", "gone.md"]
    assert broken(tmp_path, page) == expected
