"""What the scripts that test the program share: running it, checks that are counted, and the last line, which ./test reads."""
import argparse
import json
import os
import pathlib
import subprocess
import sys

_parser = argparse.ArgumentParser()
_parser.add_argument("--sememe", required=True, help="the program under test")
_parser.add_argument("--model", default="models/english", help="the language model that it is tested on")
_options = _parser.parse_args()
SEMEME = os.path.abspath(_options.sememe)
MODEL = os.path.abspath(_options.model)
_passed = _failed = _skipped = 0


def run(*arguments, timeout=600, **more):
    return subprocess.run([SEMEME, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, **more)


def check(name, condition, detail=""):
    global _passed, _failed
    _passed, _failed = _passed + bool(condition), _failed + (not condition)
    print(("ok      " if condition else "FAILED  ") + name + ("" if condition else f": {detail}"), flush=True)


def works(name, *arguments, **more):
    """Runs the program; that it ends well is a check."""
    result = run(*arguments, **more)
    check(name, result.returncode == 0, f"status {result.returncode}: {result.stderr[-400:]}")
    return result


def check_error(name, result, status, *words):
    """The program ended with that status and one line that has all the words (and no other message)."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("sememe: ")]
    check(name, result.returncode == status and len(lines) == 1 and all(word in lines[0] for word in words),
          f"status {result.returncode} (wanted {status}), wanted {words} in {result.stderr[-600:]!r}")


def read(path):
    """A JSON file; {} if it is not there, so that what is wanted of it fails by itself."""
    return json.loads(pathlib.Path(path).read_text()) if pathlib.Path(path).exists() else {}


def skip(name, reason):
    global _skipped
    _skipped += 1
    print(f"skipped {name}: {reason}", flush=True)


def finish():
    print(f"{_passed} passed, {_failed} failed" + (f", {_skipped} skipped" if _skipped else ""))
    sys.exit(_failed > 0)
