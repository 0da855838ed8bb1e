"""Bad input through the program: one clear line, the right exit status, nothing half-written under a final name."""
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import MODEL, SEMEME, check, check_error, finish, run


def limited(limit_bytes):
    """Makes a write past the limit fail like one on a full disk, instead of killing the program."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))


def leftovers(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)
rng = np.random.default_rng(1)
good = root / "good.npy"
np.save(good, rng.normal(size=(4096, 32)).astype(np.float32))
text = root / "text.txt"
text.write_text("The old house stood on a hill above the river, and nobody had lived there for years. " * 400)


def train(activations, *extra, out="out", **more):
    return run("dictionary", "train", "--activations", activations, "--architecture", "topk", "--latents", 64, "--k", 4,
               "--tokens", 8192, "--batch", 1024, "--out", root / out, *extra, **more)


# Activations that cannot be learnt from
(root / "empty.npy").write_bytes(b"")
(root / "binary.npy").write_bytes(bytes(range(256)) * 8)
(root / "short.npy").write_bytes(good.read_bytes()[:-1000])
np.save(root / "flat.npy", np.zeros(64, np.float32))
np.save(root / "none.npy", np.zeros((0, 32), np.float32))
bad = rng.normal(size=(4096, 32)).astype(np.float32)
bad[1234, 5] = np.nan
np.save(root / "nan.npy", bad)
for name in ["missing", "empty", "binary", "short", "flat", "none", "nan"]:
    check_error(f"{name} activations", train(root / f"{name}.npy"), 1, f"{name}.npy")
check_error("NaN names its row", train(root / "nan.npy"), 1, "1234")
check_error("k larger than the number of latents", train(good, "--k", 65), 2, "65", "64")
check_error("k of zero", train(good, "--k", 0), 2, "k")
check_error("architecture that does not exist", train(good, "--architecture", "magic"), 2, "magic", "topk")
check("nothing is left behind by failures", not (root / "out").exists() and
      all(not path.endswith(".tmp") for path in leftovers(root)), leftovers(root))

# Wrong usage
check_error("unknown command", run("nonsense"), 2)
check_error("missing option", run("dictionary", "train"), 2, "--activations")
check("help shows an example", "Example" in run("dictionary", "train", "--help").stdout)

# Models, sites and texts
check_error("model that does not exist", run("model", "info", root / "no-model"), 1, "no-model")
check_error("site that does not exist lists those that do",
            run("capture", "--model", MODEL, "--site", "blocks.99.nothing", "--text", text, "--tokens", 100, "--out", root / "c"),
            2, "blocks.99.nothing", "blocks.0.output")
check_error("text that does not exist",
            run("capture", "--model", MODEL, "--site", "blocks.1.output", "--text", root / "no.txt", "--tokens", 100, "--out",
                root / "c"), 1, "no.txt")
(root / "empty.txt").write_text("")
check_error("empty text",
            run("capture", "--model", MODEL, "--site", "blocks.1.output", "--text", root / "empty.txt", "--tokens", 100,
                "--out", root / "c"), 1, "empty.txt")
(root / "noise.txt").write_bytes(os.urandom(5000) + b"\0" * 100)
check_error("binary text",
            run("capture", "--model", MODEL, "--site", "blocks.1.output", "--text", root / "noise.txt", "--tokens", 100,
                "--out", root / "c"), 1, "noise.txt")
check("no store is left by failed captures", not (root / "c").exists(), leftovers(root))

# A dictionary of the wrong width
check("a dictionary of 32 wide inputs is learnt", train(good, out="narrow").returncode == 0)
check_error("dictionary that does not fit the model",
            run("dictionary", "evaluate", "--dictionary", root / "narrow", "--model", MODEL, "--site", "blocks.1.output",
                "--text", text, "--json", root / "e.json"), 1, "32")
check("no evaluation is left", not (root / "e.json").exists())

# Full disk: the limit on file size stands in for it
result = run("capture", "--model", MODEL, "--site", "blocks.1.output", "--text", text, "--tokens", 4000, "--out", root / "full",
             preexec_fn=lambda: limited(100_000))
check_error("full disk", result, 1, "write")
np.save(root / "wide.npy", rng.normal(size=(4096, 512)).astype(np.float32))
result = run("dictionary", "reconstruct", "--dictionary", root / "narrow", "--activations", good, "--out", root / "r.npy",
             preexec_fn=lambda: limited(100_000))
check_error("full disk while reconstructing", result, 1, "r.npy")
check("nothing half-written under the final name", not (root / "r.npy").exists())

# A killed run resumes to the same bytes; so does an interrupted one
np.save(root / "many.npy", rng.normal(size=(60_000, 64)).astype(np.float32))
long = ["dictionary", "train", "--activations", root / "many.npy", "--architecture", "topk", "--latents", 512, "--k", 8, "--tokens",
        1_000_000, "--batch", 1024, "--threads", 1, "--checkpoint-every", 100]


def finished(out):
    return run(*long, "--out", root / out, "--resume")


whole = run(*long, "--out", root / "whole")
check("an undisturbed run ends well", whole.returncode == 0, whole.stderr)
for name, how, statuses in [("killed", signal.SIGKILL, {-9}), ("interrupted", signal.SIGINT, {130})]:
    process = subprocess.Popen([SEMEME, *map(str, long), "--out", str(root / name)], stderr=subprocess.PIPE, text=True)
    # The first checkpoint comes after a tenth of the run: then there is something to resume, and the end is far.
    checkpoint = root / f"{name}.checkpoint"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate()
    check(f"a run is {name} before its end", process.returncode in statuses, process.returncode)
    check(f"a {name} run leaves no dictionary under the final name", not (root / name / "config.json").exists())
    again = finished(name)
    same = again.returncode == 0 and all(
        (root / name / file).read_bytes() == (root / "whole" / file).read_bytes() for file in ["dictionary.safetensors"])
    check(f"a {name} run resumes to the same bytes", same, again.stderr[-400:])

finish()
