"""`sememe model info` of a GGUF file: its metadata and tensors, on the terminal and as JSON; bad files end with one clear line."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import check, check_error, finish, read, run, works

FILE = pathlib.Path(__file__).parents[1] / "data" / "gguf" / "two_types.gguf"

work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)
lines = [line.split() for line in works("info", "model", "info", FILE, "--json", root / "info.json").stdout.splitlines()]
check("a line for each key, with its type", ["a.list", "array", "of", "string", "[x,", "yz]"] in lines and
      ["a.scale", "float32", "0.5"] in lines, lines)
check("a line for each tensor", ["w", "Q4_0", "4.500", "bits", "per", "weight", "[2,", "32]"] in lines and
      ["b", "F32", "32.000", "bits", "per", "weight", "[3]"] in lines, lines)
info = read(root / "info.json")
check("the JSON has the metadata", {"key": "a.list", "type": "array of string", "value": ["x", "yz"]} in info.get("metadata", []), info)
check("the JSON has the tensors", {"name": "w", "type": "Q4_0", "shape": [2, 32], "bytes": 36, "bits_per_weight": 4.5} in
      info.get("tensors", []), info)
check("the JSON counts", info.get("parameters") == 67 and info.get("version") == 3, info)

(root / "short.gguf").write_bytes(FILE.read_bytes()[:-60])
(root / "other.gguf").write_bytes(b"GGML" + bytes(60))
check_error("a file cut short", run("model", "info", root / "short.gguf"), 1, "short.gguf", "copied whole")
check_error("another format", run("model", "info", root / "other.gguf"), 1, "other.gguf", "GGUF")
check_error("no file", run("model", "info", root / "missing.gguf"), 1, "missing.gguf")
finish()
