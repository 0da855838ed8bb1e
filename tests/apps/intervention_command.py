"""Editing latents through the program: steer with each kind of edit, save, generate and evaluate with the file, and dose-response curves."""
import json
import math
import pathlib
import shutil
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import MODEL, check, finish, read, run, works

SITE = "blocks.1.output"


def refused(name, status, words, *arguments):
    result = run(*arguments)
    check(name, result.returncode == status and result.stderr.startswith("sememe: ") and result.stderr.count("\n") == 1 and
          all(word in result.stderr for word in words), f"status {result.returncode}: {result.stderr[-400:]}")


work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)
licences = "\n\n".join(path.read_text(errors="replace") for path in sorted(pathlib.Path("/usr/share/common-licenses").iterdir())
                       if path.is_file() and not path.is_symlink())
cut = int(len(licences) * 0.8)
train, heldout = root / "train.txt", root / "heldout.txt"
train.write_text(licences[:cut])
heldout.write_text(licences[cut:])
works("capture", "capture", "--model", MODEL, "--site", SITE, "--text", train, "--tokens", 10000, "--out", root / "activations")
topk = root / "topk"
works("train", "dictionary", "train", "--activations", root / "activations", "--latents", 256, "--k", 8, "--tokens", 40000, "--batch", 512,
      "--out", topk)
works("describe", "dictionary", "describe", "--dictionary", topk, "--model", MODEL, "--text", heldout, "--tokens", 8000, "--out",
      root / "topk-description")
lines = [json.loads(line) for line in (root / "topk-description" / "latents.jsonl").open()]
firing = sorted((one for one in lines if one["firings"] >= 20), key=lambda one: -(one["clarity"] or 0))
first, second = firing[0]["latent"], firing[1]["latent"]
dead = next((one["latent"] for one in lines if one["firings"] == 0), None)
steer = ["dictionary", "steer", "--threads", 1, "--dictionary", topk, "--model", MODEL, "--prompt", "This is the", "--tokens", 16]

# Steering by --latent and --strength is the same as --add
works("steer with --latent and --strength", *steer, "--latent", first, "--strength", 3, "--json", root / "old.json", "--save",
      root / "old-edits.json")
works("steer with --add", *steer, "--add", f"{first}=3", "--json", root / "new.json", "--save", root / "add.json")
old, new = read(root / "old.json"), read(root / "new.json")
check("both ways do the same", old and new and old["steered"][0]["after"] == new["after"] and old["steered"][0]["kl"] == new["kl"] and
      old["steered"][0]["raised"] == new["raised"] and new["kl"] > 0.001, [old, new])
check("both ways save the same", (root / "old-edits.json").read_text() == (root / "add.json").read_text())
check("one line says what was added", f"add {first}=3" in new.get("edits", []), new.get("edits"))

# The file says in which order and in which units
works("edits of all kinds", *steer, "--clamp", f"{first}=3.5", "--swap", f"{first},{second}", "--add", f"{second}=-1", "--ablate", first,
      "--scale", f"{second}=0.5", "--json", root / "all-result.json", "--save", root / "all.json")
saved = read(root / "all.json")
atom = load_file(topk / "dictionary.safetensors")["decoder"][second]
unit = next(one["typical_maximum"] for one in lines if one["latent"] == second) * float(np.linalg.norm(atom))
check("the file holds the edits in their order",
      [edit["kind"] for edit in saved.get("edits", [])] == ["clamp", "swap", "add", "ablate", "scale"], saved)
check("an added strength has the unit of the description", saved and math.isclose(saved["edits"][2]["unit"], unit, rel_tol=1e-5), unit)
check("the file says whose latents they are", saved and saved["site"] == SITE and saved["dictionary"] == {
    "folder": str(topk), "architecture": "topk", "latents": 256, "width": atom.shape[0]}, saved)
check("the result holds the file", read(root / "all-result.json").get("intervention") == saved)

# Generation with the file writes what steering wrote
generate = ["model", "generate", MODEL, "--threads", 1, "--prompt", "This is the", "--tokens", 16]
for name, after in [("add", new.get("after")), ("all", read(root / "all-result.json").get("after"))]:
    works(f"generate with {name}.json", *generate, "--intervention", root / f"{name}.json", "--json", root / "generated.json")
    check(f"the text with {name}.json is the steered one", read(root / "generated.json").get("text") == after, after)
run(*generate, "--json", root / "generated.json")
check("without an intervention it is the text before", read(root / "generated.json").get("text") == new.get("before"))
check("and the JSON names no intervention", "interventions" not in read(root / "generated.json"))

# Evaluation: what strength 0 does is nothing, what ablation does depends on the latent
evaluate = ["model", "evaluate", MODEL, "--threads", 1, "--text", heldout, "--tokens", 4000]


def loss(name, *interventions):
    files = [word for file in interventions for word in ["--intervention", file]]
    works(f"evaluate: {name}", *evaluate, *files, "--json", root / "loss.json")
    return read(root / "loss.json").get("nats_per_token", math.nan)


def save(name, *edits):
    run(*steer[:-2], "--tokens", 1, *edits, "--save", root / name)
    return root / name


clean = loss("clean")
check("strength 0 changes nothing", loss("strength 0", save("zero.json", "--add", f"{first}=0")) == clean)
twice = save("twice.json", "--swap", f"{first},{second}", "--swap", f"{second},{first}")
check("a swap twice changes nothing", loss("swap twice", twice) == clean)
ablated = loss("ablation", save("ablate.json", "--ablate", first))
check("ablation costs something", abs(ablated - clean) > 1e-5, [ablated, clean])
check("ablation is clamping to 0", loss("clamp to 0", save("clamp.json", "--clamp", f"{first}=0")) == ablated)
both = loss("two edits", save("two.json", "--ablate", first, "--clamp", f"{second}=4"))
check("two files do what one with both edits does",
      loss("two files", root / "ablate.json", save("second.json", "--clamp", f"{second}=4")) == both)

# The folder of the dictionary
shutil.copytree(topk, root / "moved")
moved = read(root / "add.json")
moved["dictionary"]["folder"] = "gone/topk"
(root / "gone.json").write_text(json.dumps(moved))
refused("a dictionary that is gone", 1, ["gone.json", "gone/topk", "--dictionary"], *generate, "--intervention", root / "gone.json")
works("--dictionary says where it is", *generate, "--intervention", root / "gone.json", "--dictionary", root / "moved", "--json",
      root / "generated.json")
check("and the text is the same", read(root / "generated.json").get("text") == new.get("after"))
works("another dictionary", "dictionary", "train", "--activations", root / "activations", "--latents", 128, "--k", 8, "--tokens", 4000,
      "--batch", 512, "--out", root / "small")
refused("one of another size is refused", 1, ["add.json", "256 latents", "128 latents"], *generate, "--intervention", root / "add.json",
        "--dictionary", root / "small")

# What cannot be
refused("--dictionary alone", 2, ["--intervention"], *generate, "--dictionary", topk)
refused("no edit", 2, ["--latent", "--add"], *steer)
refused("both ways at once", 2, ["--latent"], *steer, "--latent", first, "--strength", 1, "--ablate", 3)
refused("several strengths in one file", 2, ["--save"], *steer, "--latent", first, "--strength", 1, "--strength", 2, "--save", root / "x.json")
refused("an edit without a number", 2, ["--clamp 17", "17=2"], *steer, "--clamp", 17)
refused("a swap of one", 2, ["--swap 3", "3,8"], *steer, "--swap", 3)
refused("a latent that is not there", 2, ["latent 256", "0 to 255"], *steer, "--ablate", 256)
refused("a number that is none", 2, ["--scale"], *steer, "--scale", "3=x")
refused("a number that is not finite", 2, ["clamp latent 3", "finite"], *steer, "--clamp", "3=nan")
broken = read(root / "all.json")
broken["edits"][1]["width"] = 4
(root / "broken.json").write_text(json.dumps(broken))
refused("a file with a slip", 1, ["broken.json: edits[1]", "width"], *evaluate, "--intervention", root / "broken.json")
check("nothing was left half-written", not list(root.glob("*.tmp*")) and not (root / "x.json").exists(), list(root.iterdir()))

# Dose and response
dosing = ["dictionary", "dose", "--dictionary", topk, "--model", MODEL, "--latent", first]
two_latents = [*dosing, "--latent", second, "--text", heldout, "--tokens", 256, "--new-tokens", 8, "--kl", 0.05]
dose = works("dose", *two_latents, "--json", root / "dose.json")
curves = read(root / "dose.json")
strengths = [one["strength"] for one in curves["latents"][0]["doses"]] if curves else []
check("strengths go from -4 to 8", strengths == list(range(-4, 9)), strengths)
for latent in curves.get("latents", []):
    kl = {one["strength"]: one["kl"] for one in latent["doses"]}
    check(f"latent {latent['latent']}: no dose, no response", kl[0] == 0 and latent["doses"][4]["ce_change"] == 0, kl)
    check(f"latent {latent['latent']}: more dose, more response", 0 < kl[1] < kl[4] < kl[8] and 0 < kl[-1] < kl[-4], kl)
    check(f"latent {latent['latent']}: its promoted tokens gain", latent["doses"][-1]["promoted_mass_change"] > 0, latent["doses"][-1])
    check(f"latent {latent['latent']}: key words are counted", latent["key_words"] and all(0 <= one["key_word_share"] <= 1
                                                                                         for one in latent["doses"]), latent)
rows = curves.get("equal_kl", {}).get("rows", [])
check("latents are compared with their sum and random directions",
      [row["name"] for row in rows] == [f"latent {first}", f"latent {second}", "together", "random"], rows)
check("at equal kl the kl is equal", rows and all(math.isclose(row["kl"], 0.05, rel_tol=2e-3) for row in rows[:3]), rows)
check("at equal norm the norm is", len({row["norm"] for row in curves.get("equal_norm", {}).get("rows", [])}) == 1, curves.get("equal_norm"))
check("a table and a picture are shown", "strength" in dose.stdout and "█" in dose.stdout and "together" in dose.stdout, dose.stdout)
on_prompt = [*dosing, "--strength", 3, "--prompt", "This is the", "--new-tokens", 16]
once = works("dose on a prompt", *on_prompt, "--json", root / "prompt.json")
doses = read(root / "prompt.json").get("latents", [{}])[0].get("doses", [{}])
check("a dose on a prompt writes what steering writes", doses[0].get("text") == new.get("after"), doses)
again = works("dose on a prompt again", *on_prompt, "--json", root / "again.json")
check("the same command gives the same numbers", again.stdout == once.stdout and read(root / "again.json") == read(root / "prompt.json"))
refused("dose of nothing", 2, ["--text", "--prompt"], *dosing)
if dead is not None:
    refused("dose of a dead latent", 1, [f"latent {dead}", "never fired"], *dosing[:-1], dead, "--prompt", "This is the")
for command in [["model", "generate"], ["model", "evaluate"], ["dictionary", "steer"], ["dictionary", "dose"]]:
    text = run(*command, "--help").stdout
    check("help of " + " ".join(command), all(word in text for word in ["Example", "--dictionary"]), text)

# What else runs the model takes the file too: what is captured under an edit is what the edit leaves
strong = save("strong.json", "--add", f"{first}=8")
edited, plain = root / "edited", root / "plain"
for folder, more in [(plain, []), (edited, ["--intervention", strong])]:
    works(f"capture {folder.name}", "capture", "--model", MODEL, "--site", SITE, "--text", heldout, "--tokens", 500, "--dtype", "float32", "--out",
          folder, *more)
rows = {folder.name: load_file(folder / "shard-00000.safetensors")["activations"] for folder in (plain, edited)}
check("the edit is in the captured rows", np.abs(rows["edited"] - rows["plain"]).max() > 1e-3)
refused("a capture under another edit is not continued", 1, ["other settings"], "capture", "--model", MODEL, "--site", SITE, "--text", heldout,
        "--tokens", 500, "--dtype", "float32", "--out", edited)
for name, more in [("plain", []), ("edited", ["--intervention", strong])]:
    works(f"evaluate {name}", "dictionary", "evaluate", "--dictionary", topk, "--model", MODEL, "--text", heldout, "--tokens", 1000, "--json",
          root / f"evaluation-{name}.json", *more)
plain, edited = read(root / "evaluation-plain.json"), read(root / "evaluation-edited.json")
check("a dictionary is evaluated on the edited model", edited.get("ce_clean", 0) > plain.get("ce_clean", 9) + 0.1,
      [edited.get("ce_clean"), plain.get("ce_clean")])
check("and says so", len(edited.get("interventions", [])) == 1 and "interventions" not in plain)

finish()
