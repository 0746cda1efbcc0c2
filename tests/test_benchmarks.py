"""The benchmark runs, and no ratio has fallen clearly below benchmarks/baseline.json."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report, sansio, servers
from droid2api.formats import BY_NAME

ROOT = Path(__file__).parent.parent
BASELINE = json.loads((ROOT / "benchmarks" / "baseline.json").read_bytes())
ROOM = 0.5
"""What noise may take from a ratio: a machine that does other things too moves them by a quarter."""


def test_a_fall_is_found_and_noise_is_not():
    baseline = {"ratios": {"calls_per_s": {"nginx": {"relay": 0.2}}, "cpu_us": {"nginx": {"relay": 3.0}}}}
    baseline["instructions"] = {"chat decode": 100}

    def found(calls, cpu, instructions):
        ratios = {"calls_per_s": {"nginx": {"relay": calls}}, "cpu_us": {"nginx": {"relay": cpu}}}
        measured = {"ratios": ratios, "sans_io": {"chat decode": {"instructions": instructions}}}
        return report.falls(measured, baseline, ROOM)

    assert found(0.2, 3.0, 100) == found(0.11, 5.9, 190) == []
    assert [len(found(*values)) for values in ((0.09, 3.0, 100), (0.2, 6.1, 100), (0.2, 3.0, 210))] == [1, 1, 1]


def test_a_row_that_was_not_measured_is_no_fall():
    measured = {"ratios": {}, "sans_io": {}}
    assert report.falls(measured, BASELINE | {"instructions": {}}, ROOM) == []


def test_instructions_of_decoders_and_encoders():
    assert set(BASELINE["instructions"]) == {f"{name} {way}" for name in BY_NAME for way in ("decode", "encode")} | {
        "relay"
    }
    sans_io = {name: {"instructions": sansio.instructions(run)} for name, run in sansio.cases().items()}
    assert report.falls({"ratios": {}, "sans_io": sans_io}, BASELINE, ROOM) == []


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_ratios_of_the_readme_are_those_of_the_last_run(name):
    table = (ROOT / name).read_text(encoding="utf-8").partition("<!-- ratios -->")[2].partition("<!-- /ratios -->")[0]
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rows = [row.partition(" | ")[2] for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == 5
    assert [row for row in rows if f" | {row}\n" not in measured] == []


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(not servers.has_uvloop(), reason="the baseline was measured with uvloop")
def test_the_quick_form_against_the_baseline(tmp_path):
    """Measured again before it is a failure: on a shared machine one run says little."""
    for attempt in ("first", "second", "third"):
        measured = run_quick(tmp_path / f"{attempt}.json")
        assert {"direct", "relay chat", "chat->anthropic"} <= set(measured["rows"])
        falls = report.falls(measured, BASELINE, ROOM)
        if not falls:
            return
    pytest.fail("\n".join(falls))


def run_quick(file: Path):
    subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(file)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        timeout=180,
    )
    return json.loads(file.read_bytes())
