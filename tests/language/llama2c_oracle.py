"""Random checkpoints of llama2.c against a NumPy network that is written from the format's description: ids, predictions, what is generated; then
brought into a folder, which `transformers` must load as the same network.

Run from the repository root: .venv/bin/python tests/language/llama2c_oracle.py --sememe build/release/bin/sememe
"""

import logging
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import SEMEME, check, check_error, finish, read, run, works

TEXTS = ["the cat sat on the mat", "  two  spaces", "café — naïve 中文 🙂\n\tnew", "a", " ", "<s> is text", "there there the the cathat"]


def normalised(rows, weight):
    return rows / numpy.sqrt((rows * rows).mean(-1, keepdims=True) + 1e-5) * weight


class Network:
    """Sizes and weights of one checkpoint; logits of ids."""

    def __init__(self, sizes, weights, tied):
        self.sizes, self.weights, self.tied = sizes, weights, tied

    @staticmethod
    def layout(sizes, tied):
        dim, hidden, layers, heads, kv_heads, vocabulary, context = sizes
        head, keys = dim // heads, dim // heads * kv_heads
        parts = [("embedding", (vocabulary, dim)), ("att_norm", (layers, dim)), ("wq", (layers, dim, dim)), ("wk", (layers, keys, dim)),
                 ("wv", (layers, keys, dim)), ("wo", (layers, dim, dim)), ("ffn_norm", (layers, dim)), ("w1", (layers, hidden, dim)),
                 ("w2", (layers, dim, hidden)), ("w3", (layers, hidden, dim)), ("norm", (dim,)), ("freq_real", (context, head // 2)),
                 ("freq_imag", (context, head // 2))]
        return parts + ([] if tied else [("head", (vocabulary, dim))])

    @classmethod
    def random(cls, sizes, tied, seed):
        source = numpy.random.default_rng(seed)
        weights = {name: ((1.0 if "norm" in name else 0.0) + 0.3 * source.standard_normal(shape)).astype("f4") for name, shape in cls.layout(sizes, tied)}
        return cls(sizes, weights, tied)

    def save(self, path):
        sizes = list(self.sizes)
        sizes[5] *= 1 if self.tied else -1
        path.write_bytes(struct.pack("<7i", *sizes) + b"".join(self.weights[name].tobytes() for name, _ in self.layout(self.sizes, self.tied)))

    def logits(self, ids):
        dim, _, layers, heads, kv_heads, _, _ = self.sizes
        head, count = dim // heads, len(ids)
        w = {name: value.astype("f8") for name, value in self.weights.items()}
        angles = numpy.arange(count)[:, None] * 10000.0 ** (-numpy.arange(0, head, 2) / head)
        turn = numpy.cos(angles) + 1j * numpy.sin(angles)

        def turned(rows):  # neighbours are one complex number
            pairs = rows[..., 0::2] + 1j * rows[..., 1::2]
            pairs = pairs * turn[:, None, :]
            return numpy.stack([pairs.real, pairs.imag], -1).reshape(rows.shape)

        stream = w["embedding"][ids]
        for i in range(layers):
            x = normalised(stream, w["att_norm"][i])
            q = turned((x @ w["wq"][i].T).reshape(count, heads, head))
            k = turned((x @ w["wk"][i].T).reshape(count, kv_heads, head))
            v = (x @ w["wv"][i].T).reshape(count, kv_heads, head)
            mixed = numpy.zeros_like(q)
            for h in range(heads):
                shared = h // (heads // kv_heads)
                scores = q[:, h] @ k[:, shared].T / numpy.sqrt(head)
                scores[numpy.triu_indices(count, 1)] = -numpy.inf
                weights = numpy.exp(scores - scores.max(-1, keepdims=True))
                mixed[:, h] = weights / weights.sum(-1, keepdims=True) @ v[:, shared]
            stream = stream + mixed.reshape(count, dim) @ w["wo"][i].T
            x = normalised(stream, w["ffn_norm"][i])
            gate = x @ w["w1"][i].T
            stream = stream + (gate / (1 + numpy.exp(-gate)) * (x @ w["w3"][i].T)) @ w["w2"][i].T
        return normalised(stream, w["norm"]) @ w["embedding" if self.tied else "head"].T


class Words:
    """A tokenizer.bin: pieces with scores."""

    def __init__(self, pieces):
        self.pieces = pieces
        self.ids = {}
        for i, (piece, _) in enumerate(pieces):
            self.ids.setdefault(piece, i)

    @classmethod
    def learned(cls):
        pieces = [(b"<unk>", 0.0), (b"\n<s>\n", 0.0), (b"\n</s>\n", 0.0)] + [(b"<0x%02X>" % byte, 0.0) for byte in range(256)]
        words = [b"th", b" t", b"at", b"he", b" th", b" the", b" c", b"ca", b" cat", b"re", b"the", b"  ", "é".encode(), "中文".encode()]
        words += [bytes([c]) for c in b" abcdefghijklmnopqrstuvwxyz"] + ["中".encode(), "文".encode()]
        return cls(pieces + [(word, -float(i)) for i, word in enumerate(words)])

    def save(self, path):
        path.write_bytes(struct.pack("<I", max(len(piece) for piece, _ in self.pieces)) +
                         b"".join(struct.pack("<fI", score, len(piece)) + piece for piece, score in self.pieces))

    def encode(self, text):
        """Characters, or the bytes of those that are no piece; then again and again the best pair, the first of equals."""
        ids = [self.ids[b" "]]
        for character in text:
            piece = character.encode()
            ids += [self.ids[piece]] if piece in self.ids else [byte + 3 for byte in piece]
        while True:
            pairs = [(self.pieces[a][0] + self.pieces[b][0], i) for i, (a, b) in enumerate(zip(ids, ids[1:]))]
            known = [(-self.pieces[self.ids[joined]][1], i, self.ids[joined]) for joined, i in pairs if joined in self.ids]
            if not known:
                return ids
            _, at, merged = min(known)
            ids[at:at + 2] = [merged]

    def bytes_of(self, ids):
        text = b"".join(bytes([int(self.pieces[i][0][3:5], 16)]) if 3 <= i < 259 else self.pieces[i][0] for i in ids)
        return text


def check_ids(name, words, file, work):
    for text in TEXTS:
        (work / "text.txt").write_text(text)
        result = run("tokenizer", "encode", "--tokenizer", file, "--text", work / "text.txt", "--out", work / "ids.bin")
        found = numpy.fromfile(work / "ids.bin", "<i4").tolist() if result.returncode == 0 else result.stderr
        check(f"{name}: ids of {text!r}", found == words.encode(text), (found, words.encode(text)))


def greedy(network, words, prompt, tokens):
    ids = [1] + words.encode(prompt)
    made, gap = [], numpy.inf
    for _ in range(tokens):
        logits = network.logits(ids + made)[-1]
        best = numpy.sort(logits)[-2:]
        gap = min(gap, best[1] - best[0])
        if (choice := int(logits.argmax())) in (1, 2):
            break
        made.append(choice)
    return made, gap


def check_network(name, network, words, model, work):
    (work / "text.txt").write_text(TEXTS[0])
    ids = words.encode(TEXTS[0])
    logits = network.logits([1] + ids[:-1])
    losses = numpy.log(numpy.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1) - logits[numpy.arange(len(ids)), ids]
    works(f"{name}: evaluate", "model", "evaluate", model, "--text", work / "text.txt", "--json", work / "loss.json")
    found = read(work / "loss.json").get("nats_per_token", 0)
    check(f"{name}: nats per token", abs(found - losses.mean()) < 1e-4, (found, losses.mean()))
    prompt = "the cat"
    made, gap = greedy(network, words, prompt, 12)
    command = [SEMEME, "model", "generate", model, "--prompt", prompt, "--tokens", 12, "--greedy", "--no-echo"]
    result = subprocess.run([str(part) for part in command], capture_output=True)  # which may be any bytes
    expected = words.bytes_of(made) + b"\n"
    check(f"{name}: the likeliest tokens", gap > 1e-3 and result.stdout == expected, (gap, result.stdout, expected, result.stderr))


def check_folder(name, network, words, model, work):
    works(f"{name}: import", "model", "import", model, "--out", work / "folder", "--float32", "--json", work / "import.json")
    check(f"{name}: import says sizes", read(work / "import.json").get("type") == "float32" and read(work / "import.json").get("from_types") == ["F32"],
          read(work / "import.json"))
    imported = transformers.AutoModelForCausalLM.from_pretrained(work / "folder", dtype=torch.float32)
    ids = [1] + words.encode(TEXTS[0])
    with torch.no_grad():
        found = imported(input_ids=torch.tensor([ids])).logits[0].numpy()
    expected = network.logits(ids)
    check(f"{name}: transformers has the logits", abs(found - expected).max() < 1e-3, abs(found - expected).max())
    check_network(f"{name}: folder", network, words, work / "folder", work)


def main():
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    words = Words.learned()
    count = len(words.pieces)
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        words.save(work / "tokenizer.bin")
        words.save(work / "other.bin")
        check_ids("tokenizer.bin", words, work / "tokenizer.bin", work)
        for name, sizes, tied in [("grouped", [24, 40, 3, 4, 2, count, 40], True), ("one head each, its own output", [16, 20, 2, 4, 4, count, 40], False)]:
            network, model = Network.random(sizes, tied, len(name)), work / "model.bin"
            network.save(model)
            check_network(name, network, words, model, work)
            check_folder(name, network, words, model, work)
        works("info", "model", "info", work / "model.bin")
        works("the tokenizer given", "model", "generate", work / "model.bin", "--tokenizer", work / "other.bin", "--prompt", "a", "--tokens", 1)
        works("capture", "capture", "--model", work / "model.bin", "--site", "blocks.0.output", "--text", work / "text.txt", "--gradients",
              "--tokens", 5, "--out", work / "acts")
        (work / "short.bin").write_bytes((work / "model.bin").read_bytes()[:-4])
        check_error("a checkpoint cut short", run("model", "generate", work / "short.bin", "--prompt", "a"), 1, "short.bin", "copied whole")
        (work / "tokenizer.bin").unlink()
        check_error("no tokenizer", run("model", "generate", work / "model.bin", "--prompt", "a"), 1, "model.bin", "tokenizer.bin", "--tokenizer")
        check_error("a tokenizer where there is one", run("model", "generate", work / "folder", "--prompt", "a", "--tokenizer", work / "other.bin"), 2,
                    "--tokenizer", "folder")
    finish()


if __name__ == "__main__":
    main()
