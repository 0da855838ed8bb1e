"""Sweep and compare through the program: what is learnt, that a sweep goes on where it stopped, and figures against NumPy."""
import itertools
import json
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import MODEL, SEMEME, check, finish, read, run, works


def tensor(folder, name):
    """A float32 tensor of a dictionary's safetensors file."""
    data = (folder / "dictionary.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:8 + size])[name]
    begin, end = entry["data_offsets"]
    return np.frombuffer(data[8 + size + begin:8 + size + end], np.float32).reshape(entry["shape"])


work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)

# Rows made of few directions, so that different seeds can find the same ones.
random = np.random.default_rng(1)
directions = random.normal(size=(64, 24))
directions /= np.linalg.norm(directions, axis=1, keepdims=True)
np.save(root / "rows.npy", ((random.random((20000, 64)) < 0.03) * random.uniform(0.5, 1.5, (20000, 64)) @ directions).astype(np.float32))

# Sweep
sweep = ["dictionary", "sweep", "--activations", root / "rows.npy", "--latents", 96, "--k", "2,4", "--seeds", "1,2", "--tokens", 60000,
         "--batch", 500, "--threads", 1, "--out", root / "sweep", "--json", root / "sweep.json"]
works("sweep", *sweep)
names = [f"topk-k{k}-s{seed}" for k, seed in itertools.product([2, 4], [1, 2])]
check("a sweep learns a dictionary for each k and seed", sorted(path.name for path in (root / "sweep").iterdir()) == sorted(names),
      sorted((root / "sweep").iterdir()))
check("a cell is what train makes of its options", all(
    {key: read(root / "sweep" / name / "training.json")["settings"][key] for key in ["k", "seed", "latents", "tokens"]} ==
    {"k": int(name[6]), "seed": int(name[-1]), "latents": 96, "tokens": 60000} for name in names))
before = {name: (root / "sweep" / name / "dictionary.safetensors").stat().st_mtime_ns for name in names}
removed = root / "sweep" / names[2]
bytes_before = (removed / "dictionary.safetensors").read_bytes()
for file in removed.iterdir():
    file.unlink()
removed.rmdir()
works("sweep again", *sweep)
again = {name: (root / "sweep" / name / "dictionary.safetensors").stat().st_mtime_ns for name in names}
check("what was done is not done again", [name for name in names if before[name] != again[name]] == [names[2]], (before, again))
check("what was missing is the same", (removed / "dictionary.safetensors").read_bytes() == bytes_before)
other = run(*[96 * 2 if word == 96 else word for word in sweep])
check("cells of other options are not taken for this sweep's", other.returncode == 1 and "latents 96" in other.stderr and
      names[0] in other.stderr, other.stderr)
none = run("dictionary", "sweep", "--activations", root / "rows.npy", "--architecture", "relu", "--out", root / "none")
check("an architecture without k is refused", none.returncode == 2 and "relu" in none.stderr, none.stderr)

# An interrupted sweep goes on inside its cell
long = ["dictionary", "sweep", "--activations", root / "rows.npy", "--latents", 512, "--k", "4", "--tokens", 12000000, "--batch", 500,
        "--threads", 1, "--out", root / "long"]
process = subprocess.Popen([SEMEME, *map(str, long)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
time.sleep(2)
process.send_signal(signal.SIGINT)
process.communicate(timeout=120)
check("an interrupted sweep leaves a checkpoint", process.returncode == 130 and (root / "long" / "topk-k4-s1.checkpoint").exists(),
      process.returncode)
process = subprocess.Popen([SEMEME, *map(str, long)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
time.sleep(3)
process.send_signal(signal.SIGINT)
check("the next one continues it", "continuing at step" in process.communicate(timeout=120)[1])

# Compare: evaluations as files beside, one by option
for name, (l0, recovered) in zip(names, [(2.0, 0.80), (2.0, 0.82), (4.0, 0.91), (3.9, 0.93)]):
    (root / "sweep" / f"{name}-evaluation.json").write_text(json.dumps(
        {"tokens": 1000, "l0": l0, "fvu": 0.1, "dead": 3, "kl": 0.2, "ce_clean": 3.0, "ce_recovered": recovered,
         "ce_recovered_low": recovered - 0.01, "ce_recovered_high": recovered + 0.01}))
compared = works("compare", "dictionary", "compare", root / "sweep", "--activations", root / "rows.npy", "--rows", 5000, "--out",
                 root / "compare.html", "--json", root / "compare.json")
result = read(root / "compare.json")
check("compare has every dictionary in order", [one["name"] for one in result["dictionaries"]] == names, compared.stdout)
check("compare takes the evaluations beside", [one["evaluation"]["ce_recovered"] for one in result["dictionaries"]] == [0.80, 0.82, 0.91, 0.93])
check("the front is what no other beats", result["front"] == [1, 3], result["front"])
check("the terminal shows figures with intervals, pairs and findings", all(word in compared.stdout for word in [
    names[0], "0.9300", "0.920 to 0.940", "(seeds)", "compare.html", "no other keeps more"]), compared.stdout)

# Likeness against NumPy: nearest exactly, the matching by swapping pairs, which cannot improve an optimum
atoms = [tensor(root / "sweep" / name, "decoder") for name in names]
atoms = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in atoms]
for pair in result["pairs"]:
    cosines = atoms[pair["first"]] @ atoms[pair["second"]].T
    check(f"nearest atoms of pair {pair['first']} {pair['second']}",
          abs(pair["first_nearest"]["mean_cosine"] - cosines.max(1).mean()) < 1e-5 and
          abs(pair["second_nearest"]["mean_cosine"] - cosines.max(0).mean()) < 1e-5 and
          abs(pair["first_nearest"]["above_09"] - (cosines.max(1) > 0.9).mean()) < 0.011, pair)
    greedy, left = 0.0, cosines.copy()
    for _ in range(len(left)):
        row, column = np.unravel_index(left.argmax(), left.shape)
        greedy += left[row, column] / len(cosines)
        left[row], left[:, column] = -np.inf, -np.inf
    check("the matching is at least as good as a greedy one, and none beats the nearest", greedy - 1e-5 <= pair["matched_cosine"] <=
          min(pair["first_nearest"]["mean_cosine"], pair["second_nearest"]["mean_cosine"]) + 1e-5, (greedy, pair))
seeds = [pair for pair in result["pairs"] if pair["seeds"]]
check("pairs of seeds are told from pairs of recipes", [(pair["first"], pair["second"]) for pair in seeds] == [(0, 1), (2, 3)], seeds)
check("stability is the matched cosine between seeds", [recipe["stability"] for recipe in result["recipes"]] ==
      [pair["matched_cosine"] for pair in seeds])
check("planted directions are found by every seed", seeds[0]["matched_cosine"] > 0.6, seeds[0])
page = (root / "compare.html").read_text()
check("the page needs nothing but itself", "https://" not in page and "src=" not in page and
      page.count("http://www.w3.org/2000/svg") == page.count("http://"))

# Another evaluation by name, and what goes wrong
(root / "better.json").write_text(json.dumps({"tokens": 1000, "l0": 2.0, "ce_recovered": 0.99}))
run("dictionary", "compare", root / "sweep" / names[0], root / "sweep" / names[1], "--evaluation-of", f"{names[0]}={root / 'better.json'}",
    "--json", root / "better-compare.json")
check("--evaluation-of takes another file", read(root / "better-compare.json").get("dictionaries", [{}])[0].get("evaluation", {}).get("ce_recovered") == 0.99)
wrong = run("dictionary", "compare", root / "sweep", "--evaluation-of", f"nobody={root / 'better.json'}")
check("--evaluation-of names the dictionaries there are", wrong.returncode == 2 and names[3] in wrong.stderr, wrong.stderr)
alone = run("dictionary", "compare", root / "sweep" / names[0])
check("one dictionary is not compared", alone.returncode == 2 and "at least 2" in alone.stderr, alone.stderr)
half = run("dictionary", "compare", root / "sweep", "--model", MODEL)
check("--model without --text is refused", half.returncode == 2 and "--text" in half.stderr, half.stderr)

# With a model: capture, the examples of --help as they stand, and evaluation on the way
(root / "text.txt").write_text("\n\n".join(path.read_text(errors="replace") for path in sorted(pathlib.Path("/usr/share/common-licenses").iterdir())
                                           if path.is_file() and not path.is_symlink())[:60000])
works("capture", "capture", "--model", MODEL, "--site", "blocks.1.output", "--text", root / "text.txt", "--tokens", 8000, "--out",
      root / "runs" / "capture")
for command in ["sweep", "compare"]:
    text = run("dictionary", command, "--help").stdout
    example = shlex.split(text[text.index("Example:") + len("Example:"):].strip())
    works(f"the example of {command} runs", *example[1:], cwd=root)
    check(f"help of {command} has the options that all take", all(word in text for word in ["--seed", "--threads", "--device", "--quiet", "--json"]))
check("the example wrote its page", (root / "runs" / "compare.html").exists())
evaluated = works("compare evaluates what has no evaluation", "dictionary", "compare", root / "runs" / "sweep", "--model", MODEL, "--text",
                  root / "text.txt", "--tokens", 4000, "--threads", 1, "--json", root / "evaluated.json")
figures = [one.get("evaluation", {}) for one in read(root / "evaluated.json").get("dictionaries", [])]
check("every dictionary is evaluated, with intervals", len(figures) == 4 and all(
    one["ce_recovered_low"] <= one["ce_recovered"] <= one["ce_recovered_high"] for one in figures), figures)
single = works("evaluate", "dictionary", "evaluate", "--dictionary", root / "runs" / "sweep" / "topk-k4-s1", "--model", MODEL, "--text",
               root / "text.txt", "--tokens", 4000, "--threads", 1, "--json", root / "single.json")
alone = read(root / "single.json")
# On several threads sums come in another order each time.
apart = {key: figures[0][key] - alone[key] for key in figures[0]} if figures else {}
check("compare and evaluate give the same figures", apart and all(difference == 0 for difference in apart.values()), apart)
wanted = {"nmse", "cosine", "l2_ratio", "relative_bias", "delta_ce", "kl_zero", "kl_mean", "kl_score", "kl_score_mean", "density_percentiles",
          *(name + end for name in ["ce_recovered", "ce_recovered_mean", "kl", "fvu"] for end in ["_low", "_high"])}
check("evaluation JSON has every metric", wanted <= set(alone), wanted - set(alone))
check("figures of the evaluation go together", alone and
      abs(alone["kl_score"] - (alone["kl_zero"] - alone["kl"]) / alone["kl_zero"]) < 1e-9 and
      abs(alone["delta_ce"] - (alone["ce_dictionary"] - alone["ce_clean"])) < 1e-9 and 0 < alone["cosine"] <= 1, alone)
check("evaluate prints its intervals", " to " in single.stdout and "95 %" in single.stdout and "nmse" in single.stdout, single.stdout)

finish()
