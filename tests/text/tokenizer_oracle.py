"""Ids, vocabulary and speed of `sememe tokenizer` against PyPI's `tokenizers` on a large mixed text.

Run from the repository root: .venv/bin/python tests/text/tokenizer_oracle.py --sememe build/release/bin/sememe
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())

# One line each of many scripts, odd spaces, numbers and apostrophes: what the splitting rule can get wrong.
SAMPLES = [
    "I'm sure they'll say it's what we've done; you'd, he's, can't, we're -- I'M SURE THEY'LL SAY IT'S WHAT WE'VE DONE",
    "it’s ‘quoted’ don’t ʼn l'État rock'n'roll ''s 'stop' '' ' 'l 'lx 'v 'r 're're 'd'd",
    "²½Ⅷ x² 10⁻³ ①②③ ㊿ ٣٤٥ १२३ 一二三 1,234.5 3.14e-10 0x1F 7½ ௧௨௩ 𝟘𝟙𝟚 ¼",
    "a\u00a0b \u00a0c\u3000d \u3000 e\u0085f \u0085\u0085g\u2028h\u2029i\u200bj\u2009k\ufeffl\u180em\x0bn\x0co\x1cp\x1fq",
    "line\r\nline\r\n\r\n  indented\r\n\t\ttabs \t mixed \n\n\n end   \n ",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก こんにちは世界 안녕하세요 세계 你好，世界。",
    "e\u0301 o\u0308 n\u0303 \u0301\u0301 a\u20dd \u0939\u093f\u0928\u094d\u0926\u0940 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞",
    "😀👍🏽👨‍👩‍👧‍👦🇫🇷 ❤️ ☃ ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋ α∧¬β → ℵ₀ ™©® ½€£¥",
    "def f(x: int) -> str:\n    return f\"{x!r:>10}\"  # comment\n\n\nfor(int i=0;i<n;++i){a[i]^=b[i]<<3;} /* ... */ &&||!==",
    "𐐀𐐨 𒀀 𓀀 𠀀𠀁 ﷽ ǅ ʰ ª º ﬁ Ⓐ ⅷ ꙮ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ქართული Հայերեն አማርኛ བོད་ ខ្មែរ ᠮᠣᠩᠭᠣᠯ",
    "https://example.org/a_b-c?d=e%20f&g=h#i user.name+tag@mail.example 192.168.0.1 2024-02-29T23:59:60Z --flag=value ~/x",
    "\x00\x01\x7f\x80\x9f\ue000\ufffd\U0010fffe\U000e0001\u0378\U0001fae8 \u1c89\ua7da\U00010d40\U0002ebf0\U000116d0",
]
KINDS = [(0x20, 0x7F), (0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x370, 0x600), (0x600, 0xE00), (0x2000, 0x2100),
         (0x2150, 0x2190), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0x1F300, 0x1FAFF), (0, 0x20)]
SPACES = [" ", " ", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u0085", "'", "’", "'s", "1", "a"]


def random_text(source, characters):
    pieces = []
    while characters > 0:
        choice = source.random()
        if choice < 0.3:
            piece = source.choice(SPACES) * source.randint(1, 3)
        elif choice < 0.4:
            piece = "".join(chr(c) for c in (source.randrange(0x110000) for _ in range(4)) if not 0xD800 <= c < 0xE000)
        else:
            first, last = source.choice(KINDS)
            piece = "".join(chr(source.randrange(first, last)) for _ in range(source.randint(1, 6)))
        pieces.append(piece)
        characters -= len(piece)
    return "".join(pieces)


def real_text(limit):
    """English prose and code that every installation has: the sources and licences of Python's own packages."""
    texts, size = [], 0
    for path in sorted(pathlib.Path(os.__file__).parent.rglob("*.py")):
        try:
            with open(path, encoding="utf-8", newline="") as file:
                texts.append(file.read())
        except (OSError, UnicodeDecodeError):
            continue
        size += len(texts[-1])
        if size > limit:
            break
    return "".join(texts)[:limit]


def every_code_point():
    """Each code point between letters, digits, signs and spaces, so that its class shows in the split."""
    return "".join(f"a{c}1{c}! {c}" for c in map(chr, range(0x110000)) if not "\ud800" <= c <= "\udfff")


def train_reference(text, vocabulary):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<|endoftext|>"], initial_alphabet=ALPHABET,
                                  show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


class Comparison:
    def __init__(self, sememe, folder):
        self.sememe, self.folder = sememe, folder
        self.passed = self.failed = 0

    def check(self, name, holds, detail=""):
        self.passed += bool(holds)
        self.failed += not holds
        if not holds:
            print(f"FAILED {name}: {detail}")

    def run(self, *arguments):
        return subprocess.run([self.sememe, "tokenizer", *map(str, arguments)], capture_output=True, text=True)

    def write(self, name, text):
        path = self.folder / name
        path.write_bytes(text.encode())
        return path

    def encode(self, tokenizer_path, text_path, repeat=1):
        out, report = self.folder / "ids.bin", self.folder / "encode.json"
        result = self.run("encode", "--tokenizer", tokenizer_path, "--text", text_path, "--out", out, "--json", report,
                          "--repeat", repeat)
        if result.returncode != 0:
            raise SystemExit(result.stderr)
        return numpy.fromfile(out, dtype="<i4"), json.loads(report.read_text())

    def same_ids(self, name, path, texts):
        reference = Tokenizer.from_file(str(path))
        for label, text in texts.items():
            ids, _ = self.encode(path, self.write("text", text))
            expected = numpy.array(reference.encode(text, add_special_tokens=False).ids, dtype=numpy.int32)
            equal = len(ids) == len(expected) and bool((ids == expected).all())
            self.check(f"{name}: {label}", equal, "" if equal else first_difference(reference, ids, expected))

    def speed(self, path, text):
        """Seconds of both for one long string on one thread, the best of three each, taken in turn."""
        reference = Tokenizer.from_file(str(path))
        text_path, ours, theirs = self.write("text", text), [], []
        for _ in range(3):
            ours.append(self.encode(path, text_path)[1]["seconds"])
            start = time.perf_counter()
            reference.encode(text, add_special_tokens=False)
            theirs.append(time.perf_counter() - start)
        return min(ours), min(theirs)


def first_difference(reference, ids, expected):
    at = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
    show = lambda these: [reference.id_to_token(int(i)) for i in these[max(0, at - 3):at + 3]]
    return f"{len(ids)} ids, expected {len(expected)}; at {at}: {show(ids)}, expected {show(expected)}"


def variants(merges_from):
    """Every option of the file that is honoured, around one learned model."""
    for prefix in (False, True):
        for regex in (False, True):
            tokenizer = Tokenizer.from_str(merges_from)
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
            yield f"prefix {prefix}, regex {regex}", tokenizer
        for individual in (False, True):
            tokenizer = Tokenizer.from_str(merges_from)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=individual), pre_tokenizers.ByteLevel(add_prefix_space=prefix)])
            yield f"prefix {prefix}, digits {individual}", tokenizer
    document = json.loads(merges_from)
    document["model"]["ignore_merges"] = True
    document["model"]["merges"] = document["model"]["merges"][::-1]
    yield "ignore_merges", Tokenizer.from_str(json.dumps(document))
    document["model"]["ignore_merges"] = False
    yield "merges reversed", Tokenizer.from_str(json.dumps(document))
    document = json.loads(merges_from)
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    rare = {alphabet.pre_tokenize_str(character)[0][0] for character in "\x01\x7f\x1c"}
    kept = [merge for merge in document["model"]["merges"] if not rare & set("".join(merge))]
    document["model"].update(merges=kept, vocab={token: number for token, number in document["model"]["vocab"].items() if not rare & set(token)})
    yield "without rare bytes", Tokenizer.from_str(json.dumps(document))


def check_training(comparison, text):
    """What we learn is what `tokenizers` learns, and loads there."""
    ours, theirs = comparison.folder / "ours.json", comparison.folder / "theirs.json"
    one_document = comparison.write("train.jsonl", json.dumps({"text": text}) + "\n")
    result = comparison.run("train", "--text", one_document, "--vocabulary", 4096, "--out", ours)
    if result.returncode != 0:
        raise SystemExit(result.stderr)
    loaded = Tokenizer.from_file(str(ours))
    comparison.check("vocabulary size", loaded.get_vocab_size() == 4096, loaded.get_vocab_size())
    reference = train_reference(text, 4096)
    reference.save(str(theirs))
    comparison.check("the same vocabulary is learnt", loaded.get_vocab() == reference.get_vocab())
    return ours, theirs


def check_old_files(comparison, ours, text):
    folder = comparison.folder / "old"
    folder.mkdir()
    Tokenizer.from_file(str(ours)).model.save(str(folder))
    ids, _ = comparison.encode(folder / "vocab.json", comparison.write("text", text))
    expected = Tokenizer.from_file(str(ours)).encode(text).ids
    comparison.check("vocab.json with merges.txt", list(ids) == expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sememe", required=True)
    sememe = os.path.abspath(parser.parse_args().sememe)
    source = random.Random(4)
    real, samples = real_text(4_000_000), "\n".join(SAMPLES)
    texts = {"real": real, "samples": samples * 3, "random": random_text(source, 1_000_000)}
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(sememe, pathlib.Path(folder))
        ours, theirs = check_training(comparison, "\n".join([real, samples, random_text(source, 100_000)]))
        for name, path in {"trained here": ours, "trained by tokenizers": theirs}.items():
            comparison.same_ids(name, path, texts)
        comparison.same_ids("trained here", ours, {
            "every code point": every_code_point(), "empty": "", "space": " ", "spaces": "   ", "long word": "ab" * 20_000,
            "long run": " " * 20_000})
        for name, tokenizer in variants(theirs.read_text()):
            short = {"samples": samples, "random": random_text(source, 20_000), "empty": "", "digit": "1 a 22b"}
            path = comparison.folder / "variant.json"
            tokenizer.save(str(path))
            comparison.same_ids(name, path, short)
        check_old_files(comparison, ours, samples)
        mine, peer = comparison.speed(ours, real)
        comparison.check("no slower than tokenizers", mine <= peer, f"{mine:.3f} s against {peer:.3f} s")
    print(f"{len(real) / 1e6 / mine:.0f} MB/s here, {len(real) / 1e6 / peer:.1f} MB/s in tokenizers: {peer / mine:.1f} times faster")
    print(f"{comparison.passed} passed, {comparison.failed} failed")
    return comparison.failed > 0


if __name__ == "__main__":
    sys.exit(main())
