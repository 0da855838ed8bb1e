"""Greedy text of real GGUF files, held against llama.cpp's: ten prompts, 128 tokens each.

Where the two part, the gap between llama.cpp's two best logits there must be below what quantising activations costs. Needs the models and the
library that ./setup --models brings; says so where they are missing.
"""
import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy

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
# Of a control vector whose numbers are standard normal: enough to change most next tokens, and not enough to make them noise.
STRENGTHS = {"smollm2": 2.0, "gemma3": 20.0}


def continuation(sememe, model, prompt, tokens, *more):
    with tempfile.TemporaryDirectory() as work:
        report = pathlib.Path(work) / "report.json"
        result = subprocess.run([sememe, "model", "generate", model, "--prompt", prompt, "--tokens", str(tokens), "--greedy", "--no-echo", "--json",
                                 report, *more], capture_output=True, text=True)
        return (json.loads(report.read_text())["text"], "") if result.returncode == 0 else (None, result.stderr)


def check_control_vector(llama, sememe, model):
    """A control vector in a file of PyPI's gguf does to our text what it does to llama.cpp's: a first token that it changes is the same."""
    width, layer = llama.library.llama_model_n_embd(ctypes.c_void_p(llama.model)), 5
    random = numpy.random.default_rng(1)
    changed = 0
    for attempt in range(20):
        direction = random.standard_normal(width).astype(numpy.float32)
        with tempfile.TemporaryDirectory() as work:
            file = pathlib.Path(work) / "vector.gguf"
            writer = gguf.GGUFWriter(file, "controlvector")
            writer.add_string("controlvector.model_hint", "any")
            writer.add_uint32("controlvector.layer_count", 1)
            writer.add_tensor(f"direction.{layer}", direction)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            scale = STRENGTHS[model.stem]
            llama.control({layer: [0.0] * width})
            ids = llama.tokenize(PROMPTS[1])
            before = llama.greedy(ids, 1)[0]
            llama.control({layer: (scale * direction).tolist()})
            after, gaps, _ = llama.greedy(ids, 1)
            if after == before or gaps[0] < 2 * NOISE:
                continue
            changed += 1
            found, error = continuation(sememe, model, PROMPTS[1], 1, "--intervention", f"{file}:{scale}")
            expected = b"" if llama.ends(after[0]) else llama.piece(after[0])
            if found is None or found.encode() != expected:
                return False, f"a control vector leads to {found!r} ({error}), in llama.cpp to {expected!r}"
    llama.control({layer: [0.0] * width})
    return changed > 0, f"control vectors change the next token to llama.cpp's, {changed} of {changed} times that they do"


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
            found, error = continuation(sememe, model, prompt, TOKENS)
            if found is None:
                print(f"failed: {name}: {prompt!r}: {error}")
                failed += 1
                continue
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
            # Where the token before begins the one that the other program chose (" " and " fib"), they parted there.
            if at > 0:
                llama.clear()
                logits = llama.logits(llama.decode(llama.tokenize(prompt) + ids[:at - 1]))
                second = llama.piece(int(logits.argsort()[-2]))
                begun = len((text[:len(text) - len(pieces[at - 1])]).decode(errors="replace"))
                if second.startswith(pieces[at - 1]) and found[begun:].startswith(second.decode(errors="replace")):
                    at -= 1
            print(f"{name}: {prompt!r}: parts at token {at}, where llama.cpp's two best logits differ by {gaps[at]:.3f}")
            if gaps[at] < NOISE:
                passed += 1
            else:
                print(f"failed: {name}: {prompt!r}: {found!r} instead of {expected!r}")
                failed += 1
        print(f"{name}: {same} of {len(PROMPTS)} texts are the same to the last token")
        good, what = check_control_vector(llama, sememe, model)
        print(f"{'' if good else 'failed: '}{name}: {what}")
        passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
