"""`model generate --prompts`: many prompts in one file, each continued as it would be alone."""
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import MODEL, check, check_error, finish, run, works

work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)
prompts = ["The sea is", "A word of two", "In the beginning of the year the ship", "He said that", "x"]
(root / "prompts.jsonl").write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in prompts))
(root / "prompts.txt").write_text("\n<|endoftext|>\n".join(prompts))
many = ["model", "generate", MODEL, "--tokens", 10, "--quiet", "--out", root / "out.jsonl"]


def continuations():
    return [json.loads(line) for line in (root / "out.jsonl").read_text().splitlines()]


works("many prompts", *many, "--greedy", "--prompts", root / "prompts.jsonl", "--at-once", 2)
greedy = continuations()
check("each prompt has its line, in order", [line["prompt"] for line in greedy] == prompts, greedy)
works("all at once", *many, "--greedy", "--prompts", root / "prompts.txt", "--at-once", 16)
check("how many are continued at once changes nothing", continuations() == greedy, continuations())
works("draws", *many, "--prompts", root / "prompts.jsonl", "--at-once", 3, "--seed", 5)
drawn = continuations()
works("draws again", *many, "--prompts", root / "prompts.jsonl", "--at-once", 1, "--seed", 5)
check("nor the draws", continuations() == drawn and drawn != greedy, continuations())
stop = greedy[0]["text"][2:4]
works("stops", *many, "--greedy", "--prompts", root / "prompts.jsonl", "--stop", stop)
check("a stop ends a text before it", all(stop not in line["text"] and full["text"].startswith(line["text"]) for line, full in zip(continuations(), greedy)), stop)

check_error("neither prompt nor prompts", run("model", "generate", MODEL), 2, "--prompt", "--prompts")
check_error("no file for the continuations", run("model", "generate", MODEL, "--prompts", root / "prompts.txt"), 2, "--out")
check_error("none at once", run(*many, "--prompts", root / "prompts.txt", "--at-once", 0), 2, "at least 1")
check_error("a policy", run(*many, "--prompts", root / "prompts.txt", "--policy", "random"), 2, "policies")
(root / "none.txt").write_text("\n")
check_error("no prompt", run(*many, "--prompts", root / "none.txt"), 1, "none.txt", "no text")
(root / "long.jsonl").write_text(json.dumps({"text": "word " * 400}) + "\n")
check_error("a prompt that does not fit", run(*many, "--prompts", root / "long.jsonl"), 1, "prompt 1", "256")
finish()
