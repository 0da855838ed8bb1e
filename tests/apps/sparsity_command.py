"""Leaving neurons out from the command line: `model profile`, `model sparsity`, `model generate --policy` and `bench sparse`."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import MODEL, check, check_error, finish, read, run, works

work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)
paragraph = ("The sea is wide and the ship goes far. In the morning the sailors saw an island with green hills and a white house on the shore. "
             "They had been at sea for many days, and the water in the barrels was nearly gone. ")
(root / "text.txt").write_text("\n\n".join(paragraph.replace("sea", word) * 6 for word in ("sea", "lake", "river", "bay", "sound", "ocean")))
common = ["--text", root / "text.txt", "--quiet"]

works("profile", "model", "profile", MODEL, *common, "--out", root / "profile", "--predictors", "--rank", 8, "--json", root / "profile.json")
profile = read(root / "profile.json")
check("a profile tells what it counted", profile.get("texts", 0) > 0 and len(profile.get("layers", [])) == 4 and sum(profile.get("clusters", [])) == profile.get("texts"),
      profile)
check("a profile's shares are shares", all(0 < layer["positive_share"] < 1 and 0 < layer["hot_share"] < 1 for layer in profile.get("layers", [])), profile)

works("profile with thresholds", "model", "profile", MODEL, *common, "--out", root / "searched", "--thresholds", "--texts", 4)
searched = works("sparsity with searched thresholds", "model", "sparsity", MODEL, *common, "--texts", 1, "--prompt-tokens", 40, "--tokens", 30, "--policy", "teal",
                 "--profile", root / "searched", "--json", root / "searched.json")
equal = works("sparsity with equal thresholds", "model", "sparsity", MODEL, *common, "--texts", 1, "--prompt-tokens", 40, "--tokens", 30, "--policy", "teal",
              "--profile", root / "profile", "--json", root / "equal.json")
check("searched thresholds are other ones", read(root / "searched.json").get("policies") != read(root / "equal.json").get("policies"), searched.stdout)

measured = ["model", "sparsity", MODEL, *common, "--texts", 2, "--prompt-tokens", 40, "--tokens", 30]
works("sparsity", *measured, "--profile", root / "profile", "--keep", 0.4, "--keep", 1, "--layers", "0:3", "--json", root / "sparsity.json")
rows = read(root / "sparsity.json").get("policies", [])
names = {row["policy"] for row in rows}
check("every policy that the model takes is measured", {"coreinfer-stability", "coreinfer-similarity", "partinfer", "static", "magnitude", "random", "oracle", "cats",
                                                       "teal", "dejavu"} == names, names)
dense = read(root / "sparsity.json").get("dense_perplexity")
check("keeping all costs nothing", all(row["perplexity"] == dense for row in rows if row["keep"] == 1 and row["policy"] in ("static", "random", "oracle", "cats")), rows)
cost = {row["policy"]: row["kl"] for row in rows if row["keep"] == 0.4}
check("the largest activations cost less than random ones", cost.get("oracle", 1) < cost.get("random", 0), cost)
works("the defaults fit the shipped model's context", "model", "sparsity", MODEL, *common, "--texts", 1, "--policy", "oracle")
without = works("sparsity without a profile", *measured, "--policy", "coreinfer-stability", "--json", root / "one.json")
check("a table is printed", "coreinfer-stability" in without.stdout and "with all neurons: perplexity" in without.stdout, without.stdout)

prompt = ["model", "generate", MODEL, "--prompt", paragraph, "--greedy", "--tokens", 12, "--no-echo", "--quiet"]
plain = works("generate", *prompt, "--policy", "oracle", "--keep", 1)
check("keeping all is decoding densely", plain.stdout == works("generate densely", *prompt).stdout, plain.stdout)
sparse = works("generate sparsely", *prompt, "--policy", "coreinfer-stability", "--keep", 0.3, "--layers", "0:3", "--refresh", 4, "--json", root / "generated.json")
check("leaving neurons out is seen", sparse.stdout != plain.stdout and read(root / "generated.json").get("policy") == "coreinfer-stability", sparse.stdout)
short = works("generate from a short prompt", "model", "generate", MODEL, "--prompt", "The", "--greedy", "--tokens", 2, "--policy", "coreinfer-stability")
check("a short prompt says that all take part", "too few" in short.stderr, short.stderr)
lists = works("generate with a list of neurons", *prompt, "--policy", "partinfer", "--neurons", root / "profile" / "neurons.json")

works("bench", "bench", "sparse", "--model", MODEL, "--prompt", 20, "--tokens", 8, "--rounds", 1, "--json", root / "bench.json")
bench = read(root / "bench.json")
check("the bench measures both", bench and bench[0]["kept_bytes"] > 0 and bench[0]["ratio"] > 0, bench)

check_error("an unknown policy", run(*prompt, "--policy", "coreinfer"), 2, "coreinfer-stability", "oracle")
check_error("a policy without its profile", run(*prompt, "--policy", "cats"), 2, "cats", "model profile")
check_error("a policy of ReLU models", run(*prompt, "--policy", "powerinfer", "--profile", root / "profile"), 2, "powerinfer", "ReLU")
check_error("nothing kept", run(*prompt, "--policy", "random", "--keep", 0), 2, "keep", "0")
check_error("layers that are not there", run(*prompt, "--policy", "random", "--layers", "2:9"), 2, "2 to 9", "0 to 3")
check_error("layers that are no range", run(*prompt, "--policy", "random", "--layers", "2"), 2, "--layers 2", "FIRST:LAST")
check_error("a profile that is not there", run(*prompt, "--policy", "cats", "--profile", root / "none"), 1, "none", "model profile")
check_error("gradients", run("model", "generate", MODEL, "--prompt", "a", "--policy", "random", "--float32"), 2, "--float32")
check_error("an unknown shape", run("bench", "sparse", "--shape", "llama-9"), 2, "llama-9", "llama-3.2-1b")
(root / "profile" / "profile.safetensors").write_bytes((root / "profile" / "profile.safetensors").read_bytes()[:1000])
check_error("a damaged profile", run(*prompt, "--policy", "cats", "--profile", root / "profile"), 1, "profile.safetensors")
finish()
