"""From result files to the page: the newest run of each part, and every part that was measured."""

import copy

import pytest
from benchmarks.report import page
from benchmarks.report.page import BEGIN, END, PAGE, PICTURES, make_block, newest, update
from benchmarks.report.tables import TABLES

from benchmarks import results

SPREAD = {"median": 2.0, "lower": 1.5, "upper": 2.5, "number": 11}
LOAD = {"requests_per_second": 100.0, "p50_ms": 4.0, "p99_ms": 9.0, "num_requests": 50, "client_us": 30.0}
FIT = {"fixed_us": 50.0, "per_request_us": 7.0, "max_deviation": 0.1}
GROWN = {"execute_us": [57.0, 64.0], "unavoidable_us": [8.0, 16.0], "fit": FIT, "unavoidable_fit": FIT}
FORMS = ("official", "hand_written", "kindaware", "floor")
PARTS = {
    "serving": {
        "protocol": "http",
        "scenarios": [
            {
                "name": "mlp, 1 instance",
                "instances": 1,
                "concurrency": 32,
                "fastest": {"kindaware": "kindaware, 1 thread", "hand_written": "hand_written"},
                "rates": {
                    **{form: SPREAD | {"median": 100.0} for form in FORMS},
                    "floor": SPREAD | {"median": 450.0},
                },
                "ratios": {"rate: kindaware / official": SPREAD},
                "rounds": [dict.fromkeys(FORMS, LOAD)],
            }
        ],
        "not_measured": ["litserve can't be installed"],
    },
    "curve": {
        "protocol": "http",
        "networks": {
            "mlp": [
                {
                    "concurrency": n,
                    "kindaware": dict.fromkeys(("requests_per_second", "p50_ms", "p99_ms"), SPREAD),
                }
                for n in (1, 64)
            ]
        },
        "not_measured": [],
    },
    "overhead": {"requests": 32, "us_per_request": {"execute": SPREAD}, "ratios": {}},
    "growth": {"requests": [1, 2], "in_process": GROWN, "in_stub": GROWN},
    "stages": {
        "concurrency": 32,
        "networks": {
            "mlp": {
                "in_stub": {"requests_per_batch": 15.5, "us_per_request": {"forward": 300.0, "rest": 100.0}},
                "in_process": {"ms_per_execute": {"read": 0.5, "between them": 1.5}, "operators_us": {}},
            }
        },
    },
    "imports": {"seconds": {"torch": SPREAD}, "ratios": {}},
    "turns": {
        "networks": {
            "mlp": {
                "rounds": 1200,
                "us": {"official": SPREAD, "kindaware": SPREAD},
                "ratios": {"official": SPREAD | {"median": 1.25}},
                "further_us": {"official": SPREAD | {"median": 7.5}},
            }
        }
    },
    "threads": {
        "scenarios": [
            {
                "name": "threads, mlp, 2 instances",
                "threads": [1, 1],
                "rates": {"auto": SPREAD, "1 thread": SPREAD},
                "ratios": {"rate: auto / the better of one thread and all": SPREAD},
            }
        ],
        "starts": {"mlp": {"chosen": {"1 (measured)": 9, "2 (busy)": 1}, "seconds": SPREAD}},
        "not_measured": [],
    },
    "gains": {
        "concurrency": 8,
        "networks": {
            "efficientnet_lite0": {
                "rates": {"bf16-true": SPREAD, "optimize auto": SPREAD},
                "ratios": {"bf16-true": SPREAD, "optimize auto": SPREAD},
                "optimized": {"best": {"name": "channels_last", "ratio": SPREAD}},
                "agreement": {"pictures": 234, "same_best_class": {"bf16-true": 0.982}},
            }
        },
        "not_measured": ["gains of resnet50: no memory"],
    },
    "step": {
        "protocol": "http",
        "scenarios": [
            {
                "name": "gpt, 32 streams",
                "measures": {"tokens per second": {"step": SPREAD, "stream": SPREAD}},
                "ratios": {"rate: step / stream": SPREAD | {"median": 6.5}},
                "rounds": [],
            }
        ],
        "curve": [
            {
                "streams": n,
                "measures": {name: {"step": SPREAD} for name in ("tokens per second", "first one, ms")},
            }
            for n in (1, 64)
        ],
        "not_measured": ["litserve: can't be installed"],
    },
    "padding": {
        "concurrency": 32,
        "scenarios": [
            {
                "name": "texts",
                "rates": {"auto": SPREAD},
                "of_one": {"auto": SPREAD | {"median": 1.75}},
                "ratios": {},
            }
        ],
        "not_measured": ["texts of 64 tokens: no memory"],
    },
    "memory": {
        "samples": [{"requests": 5000, "resident_mib": 300.25, "anonymous_mib": 200.0}] * 2,
        "growth_in_second_half_mib": 0.5,
    },
    "sharing": {
        "scenarios": [
            {
                "name": "sharing",
                "measures": {
                    "Weights, MiB": {"load_weights, 4": SPREAD},
                    "Load, s": {"load_weights, 4": SPREAD},
                },
                "ratios": {"memory: 4 instances / 1, load_weights": SPREAD},
            }
        ],
        "not_measured": [],
    },
    "starts": {
        "scenarios": [
            {
                "name": "starts, mlp",
                "measures": {"Ready, s": {"compiled, second start": SPREAD}},
                "ratios": {"ready: compiled, second start / as it is": SPREAD},
            }
        ],
        "not_measured": [],
    },
    "overlap": {
        "simulated": True,
        "scenarios": [
            {
                "name": "batch of 10 ms, 64 requests in flight",
                "measures": {"requests per second": {"overlap_calls": SPREAD}},
                "ratios": {"rate: overlap_calls / one call at a time": SPREAD | {"median": 1.75}},
                "rounds": [],
            }
        ],
        "timeline": {
            form: [
                {"lane": "host: read", "start_ms": 0.0, "end_ms": 1.0},
                {"lane": "compute", "start_ms": 1.5, "end_ms": 11.5},
            ]
            for form in ("overlap_calls", "one call at a time")
        },
        "not_measured": [],
    },
}


def run_of(parts, date="2026-01-02T00:00:00+00:00", **more):
    machine = {
        "processor": "P",
        "cores": 2,
        "memory_gib": 8,
        "system": "S",
        "kernel": "6",
        "load_average": [0.1],
    }
    run = {
        "date": date,
        "minutes": 20.5,
        "command": "python -m benchmarks",
        "commit": "0123456789abcdef",
        "uncommitted_changes": False,
        "machine": machine,
        "versions": {"torch": "2.0"},
        **more,
    }
    return {"run": run, "parts": {part: copy.deepcopy(PARTS[part]) for part in parts}}


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("serving", "| `official` | 100 (1.5 to 2.5) | 4 | 9 | 30 | 1 (1 to 1) |"),
        ("serving", "450 answers per second from `floor`, 4.50 times as many as from the fastest other form"),
        ("serving", "The bars are about `kindaware, 1 thread`: that was the faster variant."),
        ("serving", "Not measured: litserve can't be installed"),
        ("curve", "From 1 to 64 requests in flight"),
        ("overhead", "| execute | 2 (1.5 to 2.5) |"),
        ("turns", "| `official` | 2 (1.5 to 2.5) | 1.25 (1.5 to 2.5) | 7.5 (1.5 to 2.5) |"),
        ("turns", "| `kindaware` | 2 (1.5 to 2.5) |  |  |"),
        ("growth", "| 2 | 64.0 | 16.0 | 64.0 | 16.0 |"),
        ("growth", "execute 50.0 us and 7.00 us per request, off by at most 10%"),
        ("stages", "| rest | 100.0 | 25.0% |"),
        ("stages", "| between them | 1.500 | 75.0% |"),
        ("imports", "| `import torch` | 2 (1.5 to 2.5) |"),
        ("threads", "|  | Threads of `auto` | auto, requests per second | 1 thread, requests per second |"),
        ("threads", "| mlp, 2 instances | 1, 1 | 2 (1.5 to 2.5) | 2 (1.5 to 2.5) |"),
        ("threads", "| mlp | 9 x 1 (measured); 1 x 2 (busy) | 2 (1.5 to 2.5) |"),
        ("gains", "| bf16-true | 2 (1.5 to 2.5) | 2 (1.5 to 2.5) | 98.2% |"),
        ("gains", "| optimize auto | 2 (1.5 to 2.5) | 2 (1.5 to 2.5) | not measured |"),
        ("gains", "`optimize` `auto` reached 2 (1.5 to 2.5) times the rate of `channels_last`."),
        ("gains", "Not measured: gains of resnet50: no memory"),
        ("step", "### Streams, over HTTP"),
        ("step", "| rate: step / stream | 6.5 (1.5 to 2.5) |"),
        ("step", "(../_static/streams.svg)"),
        ("step", "Not measured: litserve: can't be installed"),
        ("overlap", "### Calls that overlap, on a simulated GPU"),
        ("overlap", "| rate: overlap_calls / one call at a time | 1.75 (1.5 to 2.5) |"),
        ("overlap", "(../_static/overlap_timeline.svg)"),
        ("starts", "| ready: compiled, second start / as it is | 2 (1.5 to 2.5) |"),
        ("padding", "Texts of different length, 32 requests in flight"),
        ("padding", "| auto | 2 (1.5 to 2.5) | 1.75 (1.5 to 2.5) |"),
        ("padding", "(../_static/padding.svg)"),
        ("sharing", "(../_static/sharing.svg)"),
        ("padding", "Not measured: texts of 64 tokens: no memory"),
        ("memory", "| 5000 | 300.2 | 200.0 |"),
        ("memory", "grew by +0.5 MiB"),
    ],
)
def test_block_has_the_figures_of_each_part(part, text):
    assert text in make_block([run_of([part])])


def test_block_has_a_line_for_each_bar_and_for_each_part_that_was_not_measured():
    block = make_block([run_of(["serving"])])

    bar = "| mlp, 1 instance | rate: kindaware / official | at least 1.3 | 2 (1.5 to 2.5) | 11 | met |"
    assert bar in block
    assert "| resnet50 | rate: kindaware / official | at least 2.2 |  |  | not measured |" in block
    for part in TABLES:
        assert (f"`{part}`: not measured." in block) == (part != "serving")


def test_block_names_machine_versions_command_and_what_failed():
    block = make_block([run_of(["imports"], failed={"gains": "no memory"}, minutes=21.5)])

    assert (
        "### Machines and versions\n\nMeasured with `python -m benchmarks`:\n\n- parts `imports`\n" in block
    )
    assert "- from 2026-01-02T00:00:00+00:00 on, for 21.5 minutes; commit 0123456789\n" in block
    assert "- P; 2 cores, 8 GiB\n- S, Linux 6; load average 0.1 when it began\n- torch 2.0\n" in block
    assert "- not measured: gains, no memory" in block


def test_newest_takes_each_part_from_the_first_run_that_has_it():
    new, old = run_of(["imports"]), run_of(["imports", "memory"])

    assert newest([new, old]) == {"imports": new, "memory": old}


def test_block_without_results_says_so():
    assert "Not measured yet" in make_block([])


def test_update_replaces_the_block_and_leaves_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(page, "PICTURES", tmp_path / "pictures")
    page.PAGE.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    written = list(update([run_of(PARTS)]))

    text = page.PAGE.read_text()
    names = ("throughput_latency.svg", "streams.svg", "padding.svg", "sharing.svg", "overlap_timeline.svg")
    plots = [tmp_path / "pictures" / name for name in names]
    assert written == [tmp_path / "page.md", *plots]
    assert text.startswith(f"before\n{BEGIN}\n\n### Bars")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text
    assert all("<svg" in path.read_text() for path in plots)


def test_page_has_the_figures_of_the_results_that_are_kept():
    runs = results.load_all()
    block = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]

    assert block == f"\n{make_block(runs)}\n"
    pictures = {"curve": "throughput_latency", "step": "streams", "overlap": "overlap_timeline"}
    for part, name in {**pictures, "padding": "padding", "sharing": "sharing"}.items():
        assert (PICTURES / f"{name}.svg").exists() == (part in newest(runs))


def test_load_all_leaves_out_quick_runs_and_those_of_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    for name, date in (
        ("a", "2026-01-01"),
        ("b", "2026-01-03"),
        ("quick-c", "2026-01-04"),
        ("gpu-d", "2026-01-05"),
    ):
        results.save(name, {"date": date}, {})

    assert [one["run"]["date"] for one in results.load_all()] == ["2026-01-03", "2026-01-01"]
