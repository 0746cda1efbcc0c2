"""Coverage-guided fuzzing (atheris): the SSE reader and the three stream decoders, from the recorded streams on.

    scripts/fuzz [--seconds 20] [sse | chat | responses | anthropic]...

Each target runs in a process of its own, within the time. A crash is printed with the input that causes it, and the
exit code is 1: make that input an example in tests/test_fuzz.py. Needs the extra `fuzz`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

OWN = Path(__file__).parent / "recordings"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--run", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", default=["sse", "chat", "responses", "anthropic"])
    arguments = parser.parse_args()
    if arguments.run:
        fuzz(arguments.targets[0], arguments.seconds, Path(arguments.run))
    return max(report(target, arguments.seconds) for target in arguments.targets)


def report(target: str, seconds: int) -> int:
    """Fuzz one target in a child process. 1 when it crashed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz", "--run", folder, "--seconds", str(seconds), target]
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + 120)
        output = child.stdout + child.stderr
        crashes = [file for file in Path(folder).iterdir() if file.name.startswith(("crash-", "timeout-", "oom-"))]
        last = [line for line in output.splitlines() if line.startswith(("Done", "#"))][-1:]
        print(f"{target}: {'CRASH' if child.returncode else 'ok'} {' '.join(last)}", flush=True)
        if not child.returncode and "Done" in output:
            return 0
        telling = [line for line in output.splitlines() if not line.startswith("#")]
        print(*telling[-60:], *(f"{file.name}: {file.read_bytes()!r}" for file in crashes), sep="\n")
        return 1


def fuzz(target: str, seconds: int, folder: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["droid2api"]):
        import droid2api.formats
        import droid2api.wire.sse  # noqa: F401 - instrumented before the checks import it
    from tests import fuzz_targets

    corpus = folder / "corpus"
    corpus.mkdir()
    words = set()
    for file in OWN.rglob("*.sse"):
        if target in ("sse", file.parent.name):
            (corpus / file.name).write_bytes(b"\x40" + file.read_bytes())
            words |= {
                word for word in file.read_text().split('"') if word.isascii() and word.replace("_", "a").isalnum()
            }
    dictionary = folder / "dictionary"
    dictionary.write_text("".join(f'"\\"{word}\\""\n' for word in sorted(words)))
    options = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=1500",
        "-max_len=9000",
        f"-dict={dictionary}",
    ]
    check = fuzz_targets.check_sse if target == "sse" else fuzz_targets.stream_check(target)
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
