"""`sememe model import`: what a folder holds afterwards, what it says of sizes, and what it refuses."""
import json
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import MODEL, check, check_error, finish, read, run, skip, works

SMOLLM2 = pathlib.Path("runs/models/smollm2.gguf")
GEMMA3 = pathlib.Path("runs/models/gemma3.gguf")
MINILM = pathlib.Path("runs/models/minilm")

work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)
text = root / "text.txt"
text.write_text("The sea is a large body of salt water, and a ship is a vessel that sails on it.\n")


def nats(model, *options):
    works(f"evaluate {model.name}", "model", "evaluate", model, "--text", text, "--json", root / "loss.json", *options)
    return read(root / "loss.json").get("nats_per_token", 0)


def imports(name, model, *options):
    """The folder, and what is said of it."""
    folder, report = root / name, root / f"{name}.json"
    result = works(f"import {name}", "model", "import", model, "--out", folder, "--json", report, *options)
    check(f"{name} has its files", all((folder / file).exists() for file in ("config.json", "model.safetensors", "tokenizer.json")))
    said = read(report)
    check(f"{name}: the sizes are said", said.get("bytes") == (folder / "model.safetensors").stat().st_size
          and f"{said['bytes'] / 1e6:.1f} MB of {said['type']}" in result.stdout, (said, result.stdout))
    return folder, said, result.stdout


original = pathlib.Path(MODEL)
folder, said, _ = imports("folder16", original)
check("float16 is the default", said.get("type") == "float16" and said.get("family") == read(original / "config.json").get("model_type"), said)
check("the shipped model loses nothing", nats(folder) == nats(original), (nats(folder), nats(original)))
folder, said, shown = imports("folder32", original, "--float32")
check("float32 is said to be twice as large", "2.00 times as large" in shown, shown)
check("and loses nothing either", nats(folder) == nats(original))
generated = [works(f"generate with {model.name}", "model", "generate", model, "--prompt", "The sea", "--tokens", 5, "--greedy").stdout for model in (original, folder)]
check("all commands take the folder", generated[0] == generated[1], generated)

check_error("no such file", run("model", "import", root / "none.gguf", "--out", root / "x"), 1, "none.gguf")
check_error("its own folder", run("model", "import", folder, "--out", folder), 2, "--out", "own folder")
(root / "other").mkdir()
(root / "other" / "mine.txt").write_text("mine")
check_error("a folder of something else", run("model", "import", original, "--out", root / "other"), 1, "other")
check("which stays as it is", (root / "other" / "mine.txt").exists())
(root / "bad.gguf").write_bytes(b"GGUF" + bytes(20))
check_error("a bad file", run("model", "import", root / "bad.gguf", "--out", root / "x"), 1, "bad.gguf")
(root / "bad.bin").write_bytes(bytes(100))
check_error("a bad checkpoint", run("model", "import", root / "bad.bin", "--out", root / "x"), 1, "bad.bin", "llama2.c")
check("nothing is written of them", not (root / "x").exists())

for name, path, bound in [("smollm2", SMOLLM2, 1e-3), ("gemma3", GEMMA3, 1e-2)]:
    if not path.exists():
        skip(name, f"{path} is not there; ./setup --models brings it")
        continue
    folder, said, shown = imports(name, path)
    check(f"{name}: a larger folder is said to be larger", said["bytes"] > said["from_bytes"] and "times as large" in shown, shown)
    found, expected = nats(folder), nats(path, "--float32")
    check(f"{name}: predicts as the file does", abs(found - expected) < bound, (found, expected))
    conversation = root / "messages.json"
    conversation.write_text(json.dumps([{"role": "user", "content": "Hello"}]))
    prompts = []
    for tokenizer in (path, folder):
        run("tokenizer", "chat", "--tokenizer", tokenizer, "--messages", conversation, "--out", root / "prompt.txt")
        prompts.append((root / "prompt.txt").read_text() if (root / "prompt.txt").exists() else "")
        (root / "prompt.txt").unlink(missing_ok=True)
    has_template = name == "smollm2"  # the other's file has none
    check(f"{name}: the chat template comes along", (prompts[0] != "") == has_template and prompts[0] == prompts[1], prompts)
    infos = []
    for tokenizer in (path, folder):
        works(f"{name}: tokenizer info", "tokenizer", "info", "--tokenizer", tokenizer, "--json", root / "tokenizer.json")
        infos.append({key: value for key, value in read(root / "tokenizer.json").items() if key not in ("seconds", "load_seconds")})
    check(f"{name}: texts begin and end as before", infos[0] == infos[1], infos)
    shutil.rmtree(folder)

if MINILM.exists():
    check_error("an encoder", run("model", "import", MINILM, "--out", root / "x"), 1, "encoder", "model embed")
else:
    skip("an encoder", f"{MINILM} is not there; ./setup --models brings it")
finish()
