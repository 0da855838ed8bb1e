"""Greedy text of real GGUF files, held against llama.cpp's: ten prompts, 128 tokens each.

Where the two part, the gap between llama.cpp's two best logits there must be below what quantising activations costs. Needs the models and the
library that ./setup --models brings; says so where they are missing.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "peers"))
import llama_cpp  # noqa: E402

LIBRARY = ROOT / ".npm-peers/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
PROMPTS = ["Once upon a time", "The capital of France is", "def fibonacci(n):", "Water boils at", "My favourite book is about",
           "In 1969, the first", "Dear Sir or Madam,", "The three laws of motion are", "To make bread, you need", "She opened the door and"]
TOKENS = 128
# How much rounding activations to 8 bits moves the gap between the two best logits, against float32 with the same weights: a standard deviation of
# 0.15 (SmolLM2 at Q4_1) and 0.13 (Gemma 3 at Q4_K_M) over 300 tokens of text, at most 0.65. Two programs that round differently part by more.
NOISE = 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sememe", type=pathlib.Path, required=True)
    sememe = parser.parse_args().sememe.resolve()
    passed = failed = skipped = 0
    for name in ["smollm2", "gemma3"]:
        model = ROOT / "runs" / "models" / f"{name}.gguf"
        if not model.exists() or not LIBRARY.exists():
            print(f"skipped {name}: {model if not model.exists() else LIBRARY} is not there; ./setup --models brings it")
            skipped += len(PROMPTS)
            continue
        llama = llama_cpp.Llama(str(LIBRARY))
        llama.open(str(model), 512, 2)
        same = 0
        for prompt in PROMPTS:
            with tempfile.TemporaryDirectory() as work:
                report = pathlib.Path(work) / "report.json"
                result = subprocess.run([sememe, "model", "generate", model, "--prompt", prompt, "--tokens", str(TOKENS), "--greedy",
                                         "--no-echo", "--json", report], capture_output=True, text=True)
                if result.returncode != 0:
                    print(f"failed: {name}: {prompt!r}: {result.stderr}")
                    failed += 1
                    continue
                found = json.loads(report.read_text())["text"]
            ids, gaps, _ = llama.greedy(llama.tokenize(prompt), TOKENS)
            pieces = []
            for token in ids:
                if llama.ends(token):
                    break
                pieces.append(llama.piece(token))
            expected = b"".join(pieces).decode(errors="replace")
            if found == expected:
                passed, same = passed + 1, same + 1
                continue
            # The token in which the texts part.
            length = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
            at, text = 0, b""
            while at < len(pieces) and len((text + pieces[at]).decode(errors="replace")) <= length:
                text += pieces[at]
                at += 1
            print(f"{name}: {prompt!r}: parts at token {at}, where llama.cpp's two best logits differ by {gaps[at]:.3f}")
            if gaps[at] < NOISE:
                passed += 1
            else:
                print(f"failed: {name}: {prompt!r}: {found!r} instead of {expected!r}")
                failed += 1
        print(f"{name}: {same} of {len(PROMPTS)} texts are the same to the last token")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
