"""Tables, commands and links of the documentation against what there is."""

import ast
import functools
import re
import shlex
import subprocess
import sys

import pytest
from docs_models import args_for
from docs_pages import (
    OUR_PAGES,
    PAGES,
    ROOT,
    blocks_of,
    code_in,
    headings_of,
    name_of,
    table_with,
    without_blocks,
)

import kindaware
import kindaware.client
import kindaware.ray
import kindaware.states
import kindaware.testing
from kindaware import KindAwareModel, Placement
from kindaware._batch.counters import FAMILIES, TIMED_STAGES
from kindaware._batch.stages import STAGES
from kindaware._config.args import InstanceArgs
from kindaware._config.model_spec import InstanceGroup
from kindaware._config.settings import _PARSERS, PRECISIONS, SETTING_NAMES, Settings
from kindaware._device.modules import Precision
from kindaware._errors import ERROR_CODES
from kindaware._hooks.attachment import ATTRIBUTE
from kindaware._hooks.class_rules import OWN_ATTRIBUTES
from kindaware._hooks.hooks import HOOKS
from kindaware._hooks.names import COUNTERPARTS, SETTING_COUNTERPARTS
from kindaware._placement.threads import ThreadBudget
from kindaware.cli._app import GROUPS
from kindaware.testing.stand_in import NEWEST

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it there

DOCS = ROOT / "docs"
SETTINGS_ROWS = {code_in(row[0])[0]: row for row in table_with(DOCS / "reference/settings.md", "Setting")}


def test_settings_table_has_the_settings_of_the_code_in_order():
    assert tuple(SETTINGS_ROWS) == SETTING_NAMES


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_settings_table_has_the_values_that_the_code_allows(name):
    parser, written = _PARSERS[name], code_in(SETTINGS_ROWS[name][1])
    if parser.allowed.startswith("one of "):
        assert written == parser.allowed.removeprefix("one of ").split(", ")
    assert set(re.findall(r"'([^']+)'", parser.allowed)) <= set(written)
    for value in written:
        parser.parse(value)
    for number in re.findall(r"\d+", re.sub(r"'[^']*'|one of.*", "", parser.allowed)):
        assert number in SETTINGS_ROWS[name][1]


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_settings_table_has_the_default_of_the_code(name):
    default, written = getattr(Settings(), name), code_in(SETTINGS_ROWS[name][2])
    if written:
        assert _PARSERS[name].parse(written[0]) == default
    else:
        assert SETTINGS_ROWS[name][2] == "none"
        assert default is None
    assert _PARSERS[name].parse(getattr(KindAwareModel, name)) == default


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_settings_that_do_nothing_are_marked_as_not_built(name):
    is_built = "this version" not in _PARSERS[name].allowed
    assert is_built == ("not built" not in SETTINGS_ROWS[name][3])


def test_placement_table_is_what_placement_gives():
    for policy, visible, instance, devices, moved in table_with(
        DOCS / "reference/settings.md", "`model_devices` | Visible GPUs"
    ):
        args = args_for({}, "MODEL", model_instance_name=code_in(instance)[0])
        placement = Placement.from_args(args, num_devices=int(visible), model_devices=code_in(policy)[0])
        assert list(map(str, placement.devices)) == code_in(devices)
        assert placement.moves_modules == (moved == "yes")


def test_threads_table_is_what_the_budget_gives():
    for cores, share, kind, count, threads in table_with(DOCS / "reference/settings.md", "Cores"):
        group = {"name": "net_0", "kind": f"KIND_{kind}", "count": int(count)}
        args = InstanceArgs.from_dict(args_for({"name": "net"}, kind))
        environment = {} if share == "not set" else {"KINDAWARE_CPU_SHARE": share}
        budget = ThreadBudget.of_instance(
            args,
            [InstanceGroup.from_config(group, "")],
            Placement.of_instance(args, Settings(), num_devices=1),
            num_threads=None,
            num_cores=int(cores),
            environment=environment,
        )
        assert budget.num_threads == int(threads)
        if (cores, share, kind, count) == ("16", "not set", "CPU", "4"):
            assert (
                f"threads {budget.num_threads} ({budget.reason})"
                in (DOCS / "reference/settings.md").read_text()
            )


def test_precision_table_is_what_the_code_does():
    rows = table_with(DOCS / "reference/settings.md", "Value")
    assert sorted(code_in(row[0])[0] for row in rows) == sorted(PRECISIONS)
    for name, modules, around in rows:
        precision = Precision.of(code_in(name)[0])
        dtype = str(precision.dtype).removeprefix("torch.")
        converts = f"converted to {dtype}" if precision.converts_to else "as they are"
        assert modules == converts
        assert around == (f"autocast to {dtype}" if precision.is_mixed else "nothing")


def test_hooks_page_has_a_section_for_each_hook_and_no_other():
    text = without_blocks(DOCS / "reference/hooks.md")
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert sorted(sections) == sorted(HOOKS)
    assert sorted(code_in(row[0])[0] for row in table_with(DOCS / "reference/hooks.md", "Hook")) == sorted(
        HOOKS
    )
    for name in HOOKS:
        assert f"\n## {name}\n\n`{name}(self" in text


def test_hooks_page_lists_what_the_library_provides_on_an_instance():
    rows = table_with(DOCS / "reference/hooks.md", "Attribute | Type | From")
    listed = {code.removeprefix("self.") for row in rows for code in code_in(row[0])}
    assert f"so does `self.{ATTRIBUTE}`" in (DOCS / "reference/hooks.md").read_text()
    assert listed - {"model"} | {ATTRIBUTE} == OWN_ATTRIBUTES


def test_hooks_page_lists_the_names_of_other_frameworks():
    rows = table_with(DOCS / "reference/hooks.md", "Here | Elsewhere")
    listed = {name: code_in(row[0])[0] for row in rows for name in code_in(row[1])}
    assert listed == COUNTERPARTS | SETTING_COUNTERPARTS


def test_errors_page_lists_the_codes():
    assert [code_in(row[0])[0] for row in table_with(DOCS / "reference/errors.md", "Code")] == list(
        ERROR_CODES
    )


def test_metrics_page_lists_the_metrics_and_the_stages_that_they_time():
    rows = table_with(DOCS / "reference/metrics.md", "Metric")
    assert [code_in(row[0])[0] for row in rows] == [family.name for family in FAMILIES.values()]
    (stages,) = re.findall(r"\nThe stages: ([^.]+)\.\s", (DOCS / "reference/metrics.md").read_text())
    assert code_in(stages) == list(TIMED_STAGES)


def test_profile_page_lists_the_stages():
    rows = table_with(DOCS / "reference/commands/profile.md", "Stage")
    assert [code_in(row[0])[0] for row in rows] == [*STAGES, "between them"]
    (output,) = blocks_of(DOCS / "reference/commands/profile.md", "output")
    shown = [stage for stage in STAGES if f"\n  {stage}  " in output.code]
    assert shown == [stage for stage in STAGES if stage not in ("preprocess", "copy in")]


@pytest.mark.parametrize(
    ("title", "container"), [("Folder", "kindaware"), ("Folder of `testing`", "kindaware.testing")]
)
def test_design_page_says_of_each_folder_what_it_holds(title, container):
    folder = ROOT.joinpath("src", *container.split("."))
    found = [path.stem for path in folder.iterdir() if path.suffix == ".py" or [*path.glob("*.py")]]
    listed = [code_in(row[0])[0] for row in table_with(DOCS / "explanation/design.md", title)]
    assert sorted(listed) == sorted(set(found) - {"__init__"})


def test_design_page_names_classes_and_methods_that_exist():
    defined = {}
    for path in ROOT.glob("src/kindaware/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                methods = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
                defined.setdefault(node.name, set()).update(methods)
    named = re.findall(r"\b([A-Z][a-z]\w+)\.(\w+)\b", (DOCS / "explanation/design.md").read_text())
    assert len(named) > 10
    assert [one for one in named if one[1] not in defined.get(one[0], ())] == []


def test_api_page_has_every_public_name():
    text = (DOCS / "reference/api.md").read_text()
    public = [f"kindaware.{name}" for name in kindaware.__all__]
    for package in (kindaware.testing, kindaware.client, kindaware.ray, kindaware.states):
        public += [f"{package.__name__}.{name}" for name in package.__all__]
    assert sorted(re.findall(r"auto\w+:: (\S+)", text)) == sorted(public)


def test_quoted_attributes_of_a_placement_are_its_own():
    for row in table_with(DOCS / "reference/placement.md", "Attribute"):
        assert hasattr(Placement, code_in(row[0])[0])


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("Member of the server", kindaware.testing.TritonServer),
        ("Member", kindaware.testing.ModelHarness),
    ],
)
def test_quoted_members_are_those_of_the_class(title, kind):
    one = kind("models")
    for row in table_with(DOCS / "reference/testing.md", title):
        for member in code_in(row[0]):
            name = member.split("(")[0]
            assert hasattr(kind, name) or hasattr(one, name), name


def test_quoted_fixtures_and_markers_are_those_of_the_plugin():
    source = (ROOT / "src/kindaware/testing/pytest_plugin.py").read_text()
    fixtures = re.findall(r"@pytest.fixture\ndef (\w+)", source)
    markers = re.findall(r'f"(\w+)\(num_devices=1\): ', source)
    rows = table_with(DOCS / "reference/testing.md", "Fixture or marker")
    assert {code_in(row[0])[0] for row in rows} == {*fixtures, *markers}


def test_versions_of_the_stand_in_are_those_of_the_code():
    constant = re.compile(r"^\w+_SINCE = \((\d+), (\d+)\)$", re.MULTILINE)
    kit = (ROOT / "src/kindaware/testing").rglob("*.py")
    since = {tuple(map(int, found)) for path in kit for found in constant.findall(path.read_text())}
    rows = table_with(DOCS / "reference/testing.md", "From")
    assert [row[0] for row in rows] == [f"{year}.{month:02}" for year, month in sorted(since)]
    assert "{}.{:02}".format(*NEWEST) in (DOCS / "reference/testing.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_table_of_a_page_has_a_line_below_its_header(page):
    text = without_blocks(page)
    headers = re.findall(r"(?:\A|(?<!\|)\n)(\|.*\|)\n(.*)", text)
    assert [header for header, below in headers if not re.fullmatch(r"(\|[-: ]+)+\|", below)] == []


@pytest.mark.parametrize("page", OUR_PAGES, ids=name_of)
def test_links_of_a_page_resolve(page):
    for target in re.findall(r"\]\(([^)]+)\)", without_blocks(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = page if not path else (page.parent / path)
        assert linked.resolve().exists(), target
        if anchor:
            assert {anchor, anchor.replace("-", "_")} & headings_of(linked), target


def commands():
    return [
        pytest.param(line.removeprefix("$ "), id=f"{block.id}-{line[2:30]}")
        for page in OUR_PAGES
        for block in blocks_of(page, "console")
        for line in block.code.splitlines()
    ]


def inline_commands():
    return sorted(
        {
            code
            for page in OUR_PAGES
            for code in code_in(without_blocks(page))
            if re.match(r"(make|kindaware|pip) ", code)
        }
    )


@pytest.fixture(scope="module")
def targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def extras():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture(scope="module")
def command_help():
    @functools.cache
    def read(*names):
        command = [sys.executable, "-m", "kindaware.cli", *names, "--help"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return read


@pytest.mark.parametrize("command", [*commands(), *inline_commands()])
def test_command_is_one_that_exists(command, targets, extras, command_help):
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=[^$]*", words[0]):  # variables before the command
        command = command.split(maxsplit=1)[1]
        del words[0]
    if words[0] == "make":
        named = [word for word in words[1:] if "=" not in word]
        assert set(named) <= targets
        variables = {word.split("=")[0] for word in words if "=" in word}
        assert variables <= {
            "PYTHON",
            "PYTEST_ARGS",
            "BENCH_ARGS",
            "MUTANTS_ARGS",
            "WORKERS",
            "FUZZ_ARGS",
            "SOAK_ARGS",
        }
    elif words[0] == "kindaware":
        names = words[1:3] if words[1] in GROUPS else words[1:2]
        own = words[: words.index("--")] if "--" in words else words  # the rest is tritonserver's
        options = [word.split("=")[0] for word in own[2:] if word.startswith("-")]
        assert words[1].startswith("-") or [one for one in options if one not in command_help(*names)] == []
    elif words[0] == "pip":
        assert words[1] in ("install", "uninstall")
        for names in re.findall(r"(?:kindaware|'\.)\[([^]]*)\]", command):
            assert set(names.split(",")) <= set(extras)
    else:
        own = "from kindaware.testing.stand_in import TYPINGS; print(TYPINGS)"
        known = (
            "python -m venv .venv",
            ". .venv/bin/activate",
            "cd ",
            "pytest",
            "python ",
            "docker ",
            "kubectl ",
            "hf download ",
            "curl -s ",
            "scripts/gpu-day ",
            "promtool check config ",
            "prometheus --config.file=",
            "envoy -c ",
            "tritonserver --model-repository=",
            "export OTEL_EXPORTER_OTLP_ENDPOINT=",
            "export KINDAWARE_TOKEN=$(python3 -c ",
            "HF_HOME=/cache HF_HUB_OFFLINE=1 kindaware serve ",
        )
        known += (f"python -c '{own}'", f"MYPYPATH=$(python -c '{own}') mypy models/")
        assert command.startswith(known)


def test_extras_table_has_the_extras(extras):
    named = {name for row in table_with(ROOT / "README.md", "Extra") for name in code_in(row[0])}
    assert named == set(extras)


def test_contributing_has_the_targets(targets):
    rows = table_with(ROOT / "CONTRIBUTING.md", "Command")
    named = {code_in(row[0])[0].split()[1] for row in rows}
    assert named == targets - {"help"}


def test_mentioned_variables_are_read_somewhere():
    sources = [*ROOT.glob("src/**/*.py"), ROOT / "tests" / "conftest.py"]
    code = "\n".join(path.read_text() for path in sources)
    for page in OUR_PAGES:
        for name in set(re.findall(r"\bKINDAWARE_[A-Z_]+\b", page.read_text())):
            assert name in code


def test_versions_are_those_of_the_package():
    assert f"## [{kindaware.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"Version {kindaware.__version__} " in (DOCS / "index.md").read_text()
