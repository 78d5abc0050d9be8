"""What the files for maintainers say, against what the project is."""

import re
from pathlib import Path

import pytest

import kindaware

yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install 'kindaware[dev]'")

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
PYPROJECT = (ROOT / "pyproject.toml").read_text()
pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="an sdist, which has no workflows")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def jobs_of(workflow):
    return yaml.safe_load(workflow.read_text())["jobs"]


def steps_of(workflow):
    return [step for job in jobs_of(workflow).values() for step in job["steps"]]


def test_fast_tests_run_on_every_python_that_the_package_names():
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)
    assert jobs_of(GITHUB / "workflows/ci.yml")["fast"]["strategy"]["matrix"]["python"] == named


def test_server_tests_run_only_where_the_server_extra_has_a_server():
    (bound,) = set(re.findall(r"python_version < '3\.(\d+)'", PYPROJECT))
    runs = jobs_of(GITHUB / "workflows/ci.yml")["server"]["strategy"]["matrix"]["include"]
    assert all(int(run["python"].split(".")[1]) < int(bound) for run in runs)
    assert {run["target"] for run in runs} == {"coverage", "test"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_workflow_reads_the_repository_and_no_more(workflow):
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
    checkouts = [step for step in steps_of(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_workflow_has_an_end_and_pinned_actions(workflow):
    assert all("timeout-minutes" in job for job in jobs_of(workflow).values())
    used = [step["uses"] for step in steps_of(workflow) if "uses" in step]
    assert [action for action in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", action)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_workflow_calls_targets_that_the_makefile_has(workflow):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = re.findall(r"\bmake ([a-z-]+)", workflow.read_text())
    assert set(called) <= targets


def test_citation_names_the_version_and_its_day():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == kindaware.__version__
    heading = f"## [{kindaware.__version__}] - {citation['date-released']}"
    assert heading in (ROOT / "CHANGELOG.md").read_text()
    assert f'license = "{citation["license"]}"' in PYPROJECT


def test_security_policy_supports_the_version_that_there_is():
    minor = kindaware.__version__.rsplit(".", 1)[0]
    assert f"| {minor} | yes, in its newest release |" in (ROOT / "SECURITY.md").read_text()


@pytest.mark.parametrize(
    "page",
    [ROOT / "SECURITY.md", ROOT / "changelog.d/README.md", GITHUB / "PULL_REQUEST_TEMPLATE.md"],
    ids=name_of,
)
def test_links_of_a_page_resolve(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert (page.parent / target.partition("#")[0]).exists(), target


def test_bug_report_asks_for_what_is_needed_to_see_the_error():
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE/bug_report.yml").read_text())
    required = {field["id"] for field in form["body"] if field.get("validations", {}).get("required", False)}
    assert required >= {"kindaware", "torch", "tritonserver", "configuration", "model", "ready", "error"}
    ready = next(field for field in form["body"] if field.get("id") == "ready")
    source = (ROOT / "src/kindaware/_instance.py").read_text()
    assert '"kindaware instance %s ready: %s' in source
    assert ready["attributes"]["placeholder"].startswith("kindaware instance resnet50_0_0 ready: ")
