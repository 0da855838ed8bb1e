"""The main job through the program, small: capture, train, evaluate, reconstruct, describe, show, steer, report, and what each one writes."""
import json
import math
import pathlib
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import MODEL, check, finish, read, run, works


work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)

# Real English text that every Debian has; held-out text is another part of it.
licences = "\n\n".join(path.read_text(errors="replace") for path in sorted(pathlib.Path("/usr/share/common-licenses").iterdir())
                       if path.is_file() and not path.is_symlink())
cut = int(len(licences) * 0.8)
(root / "train.txt").write_text(licences[:cut])
(root / "heldout.txt").write_text(licences[cut:])
train, heldout = root / "train.txt", root / "heldout.txt"

# The model
info = works("model info", "model", "info", MODEL)
check("model info lists the sites", "blocks.1.output" in info.stdout and "blocks.3.mlp.act" in info.stdout, info.stdout)
works("model evaluate", "model", "evaluate", MODEL, "--text", heldout, "--json", root / "model.json")
bits = read(root / "model.json").get("bits_per_byte", 0)
check("the model predicts English better than chance", 0.5 < bits < 3, bits)
first = works("model generate", "model", "generate", MODEL, "--prompt", "The sea is", "--tokens", 20, "--seed", 3)
again = run("model", "generate", MODEL, "--prompt", "The sea is", "--tokens", 20, "--seed", 3)
other = run("model", "generate", MODEL, "--prompt", "The sea is", "--tokens", 20, "--seed", 4)
check("the same seed gives the same text", first.stdout == again.stdout and first.stdout.startswith("The sea is"), again.stdout)
check("another seed gives another text", first.stdout != other.stdout, other.stdout)

# Capture
works("capture", "capture", "--model", MODEL, "--site", "blocks.1.output", "--text", train, "--tokens", 20000, "--gradients", "--out",
      root / "activations", "--seed", 1, "--threads", 2, "--device", "cpu")
done = works("a finished capture is not done again", "capture", "--model", MODEL, "--site", "blocks.1.output", "--text", train, "--tokens",
             20000, "--gradients", "--out", root / "activations")

# Two dictionaries, each with all of evaluation, description and reconstruction
training_keys = {"tokens_per_second", "loss", "fvu", "dead", "l0"}
evaluation_keys = {"l0", "fvu", "explained_variance", "dead", "ce_clean", "ce_zero", "ce_mean", "ce_dictionary", "ce_recovered", "kl"}
for architecture in ["topk", "gsae"]:
    folder = root / architecture
    works(f"train {architecture}", "dictionary", "train", "--activations", root / "activations", "--architecture", architecture, "--latents",
          512, "--k", 16, "--tokens", 100000, "--batch", 512, "--seed", 1, "--out", folder, "--json", root / f"{architecture}-training.json")
    training = read(root / f"{architecture}-training.json")
    check(f"training JSON of {architecture} has its keys", training_keys <= set(training), sorted(training))
    works(f"evaluate {architecture}", "dictionary", "evaluate", "--dictionary", folder, "--model", MODEL, "--text", heldout, "--tokens", 8000,
          "--json", root / f"{architecture}-evaluation.json")
    figures = read(root / f"{architecture}-evaluation.json")
    check(f"evaluation JSON of {architecture} has its keys", evaluation_keys <= set(figures), sorted(figures))
    check(f"{architecture} keeps most of the prediction", 0.5 < figures.get("ce_recovered", 0) <= 1.01, figures)
    check(f"figures of {architecture} go together", figures and figures["ce_clean"] <= figures["ce_dictionary"] < figures["ce_mean"] + 1 and
          math.isclose(figures["explained_variance"], 1 - figures["fvu"], abs_tol=1e-9) and figures["l0"] <= 16, figures)
    works(f"describe {architecture}", "dictionary", "describe", "--dictionary", folder, "--model", MODEL, "--text", heldout, "--tokens",
          20000, "--out", root / f"{architecture}-description")
    works(f"reconstruct {architecture}", "dictionary", "reconstruct", "--dictionary", folder, "--activations", root / "activations",
          "--out", root / f"{architecture}.npy")
    rows = np.load(root / f"{architecture}.npy") if (root / f"{architecture}.npy").exists() else np.zeros((0, 0))
    check(f"reconstruction of {architecture} has one finite row a token", rows.shape[0] >= 20000 and np.isfinite(rows).all(), rows.shape)

# The same command twice on one thread gives the same bytes
for name in ["one", "two"]:
    run("dictionary", "train", "--activations", root / "activations", "--architecture", "gsae", "--latents", 128, "--k", 8, "--tokens",
        20000, "--batch", 512, "--threads", 1, "--seed", 7, "--out", root / name)
check("the same run twice gives the same bytes", all((root / "one" / file).read_bytes() == (root / "two" / file).read_bytes()
                                                     for file in ["dictionary.safetensors", "config.json"]))

# Act
lines = [json.loads(line) for line in (root / "topk-description" / "latents.jsonl").open()]
latent = max(lines, key=lambda one: one["clarity"] or 0)["latent"]
shown = works("show", "dictionary", "show", root / "topk-description", latent)
check("show names the latent and gives passages", f"latent {latent}:" in shown.stdout and "strongest" in shown.stdout, shown.stdout)
works("steer", "dictionary", "steer", "--dictionary", root / "topk", "--model", MODEL, "--latent", latent, "--strength", 0, "--strength", 4,
      "--prompt", "This is", "--tokens", 20, "--json", root / "topk-steering.json")
steering = read(root / "topk-steering.json")
check("strength 0 changes nothing", steering and steering["steered"][0]["after"] == steering["before"] and steering["steered"][0]["kl"] == 0,
      steering)
check("strength 4 changes the prediction", steering and steering["steered"][1]["kl"] > 0.001, steering)
report = works("report", "report", root, "--model", MODEL, "--out", root / "report.html")
page = (root / "report.html").read_text()
check("the report holds both dictionaries and says what was found", "TopK" in report.stdout and "g-SAE" in report.stdout, report.stdout)
check("the report needs nothing but itself", all(word not in page for word in ["http://", "https://", "src=", "@import"]) or
      page.count("http://www.w3.org") == page.count("http://") and "https://" not in page)

# A dictionary of anything
np.save(root / "half.npy", np.random.default_rng(1).normal(size=(2000, 24)).astype(np.float16))
works("a float16 .npy is learnt from", "dictionary", "train", "--activations", root / "half.npy", "--latents", 48, "--k", 4, "--tokens",
      8000, "--out", root / "half")
listed = works("study list", "study", "list")
check("study list has g-sae", "g-sae" in listed.stdout, listed.stdout)

# Every command's help has an example, and the options that all take
for command in [["capture"], ["model", "train"], ["model", "info"], ["model", "evaluate"], ["model", "generate"], ["model", "corpus"],
                ["dictionary", "train"], ["dictionary", "evaluate"], ["dictionary", "reconstruct"], ["dictionary", "describe"],
                ["dictionary", "show"], ["dictionary", "steer"], ["study", "g-sae"], ["report"], ["tokenizer", "train"], ["bench", "dictionary-train"]]:
    text = run(*command, "--help").stdout
    missing = [word for word in ["Example", "--seed", "--threads", "--device"] if word not in text]
    check("help of " + " ".join(command), not missing, missing)

finish()
