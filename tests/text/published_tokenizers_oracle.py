"""Ids of the kinds of tokenizers that published models have, against PyPI's `tokenizers` and `sentencepiece`, which train small ones here.

Run from the repository root: .venv/bin/python tests/text/published_tokenizers_oracle.py --sememe build/release/bin/sememe
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy
import sentencepiece
from gguf import GGUFWriter
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from tokenizer_oracle import ALPHABET, SAMPLES, Comparison, every_code_point, random_text, real_text

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LAST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LAST_O200K = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + LAST
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + LAST
CASED = [r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+", r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*"]
O200K = "|".join(part + CONTRACTIONS + "?" for part in CASED) + r"|\p{N}{1,3}" + LAST_O200K
TEKKEN = "|".join(CASED) + r"|\p{N}" + LAST_O200K
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

MORE_SAMPLES = [
    "It'S we'LL WE'LL'd they'Ve 'ſ x'ſ x'ſy I'M ’s ''S 'T'Ll O'Reilly d'Artagnan",
    "camelCase HTTPServer XMLHttpRequest ABCdef aBC ÀÉÎõ ǅungla ʰabc Ａｂｃ ªbc 中文Abc abc中文 АБВгд ΑΒγδ e\u0301E\u0301 \u0301a \u0301A A\u0301\u0301b",
    "1 12 123 1234 12345 123456 1,234,567.89 ٣٤٥٦ ½⅓¼ 1st 2nd",
    "a\n\n\nb \n \n c\r\n\r\nd  \t\n\te //path/to/x\n/\n// ...\n\n!!!\r\n\r\n   x    \n",
    "tabs\t\tand   runs     of spaces      \n\n\n\n\tindent\n\t\tmore\n",
    "\u2581under\u2581score \u2581\u2581 x\u2581 y",
    "caf\u00e9 cafe\u0301 \u1e9b\u0323 \u212b \ufb01 \uac01 \u1100\u1161\u11a8 \u0344 \u0958",
    "<|im_start|>user\nhello<|im_end|>\n<|endoftext|> <s>x</s> <0x0A> <unk>",
]
METASPACE = "\u2581"


class Answers:
    """What text_test says of questions, one after another."""

    def __init__(self, sememe):
        command = [pathlib.Path(sememe).parent / "text_test", "--gtest_also_run_disabled_tests", "--gtest_filter=Oracle.*"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def error_of(self, **question):
        """What is wrong with the question, or nothing; then its answer lies in the file `out`."""
        self.process.stdin.write(json.dumps({key: str(value) if isinstance(value, pathlib.Path) else value for key, value in question.items()}) + "\n")
        for line in self.process.stdout:
            if line.startswith("answer: "):
                return line.removeprefix("answer: ").rstrip("\n")
        raise SystemExit("text_test has ended")


def mixed(source, limit):
    return {"real": real_text(limit), "samples": "\n".join(SAMPLES + MORE_SAMPLES), "random": random_text(source, limit // 4), "empty": "",
            "space": " ", "spaces": "    ", "newline": "\n", "leading": "  two", "one": "a"}


def settled(texts):
    """Without characters that newer versions of Unicode added: for normal forms, case and punctuation the reference's tables are of different age."""
    old = unicodedata.ucd_3_2_0
    is_settled = lambda c: unicodedata.category(c) in ("So", "Lo") or unicodedata.category(c) == old.category(c) != "Cn"
    return {label: "".join(filter(is_settled, text)) for label, text in texts.items()}


def ids_of(reference, text):
    return reference.encode(text, add_special_tokens=False).ids


def compare(comparison, name, path, texts, expected_of, decode_of=None, specials=False):
    for label, text in texts.items():
        out = comparison.folder / "ids.bin"
        error = comparison.answers.error_of(tokenizer=path, text=comparison.write("text", text), out=out, specials=specials)
        if error:
            comparison.check(f"{name}: {label}", False, error)
            continue
        ids, expected = numpy.fromfile(out, dtype="<i4").tolist(), expected_of(text)
        at = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
        comparison.check(f"{name}: {label}", ids == expected,
                         f"{len(ids)} ids, expected {len(expected)}; at {at}: {ids[max(0, at - 3):at + 4]}, expected {expected[max(0, at - 3):at + 4]}")
        if decode_of is None or not ids:
            continue
        decoded = comparison.folder / "decoded"
        error = comparison.answers.error_of(tokenizer=path, ids=out, out=decoded)
        ours, theirs = error or decoded.read_bytes().decode(errors="replace"), decode_of(expected)
        comparison.check(f"{name}: {label}, decoded", ours == theirs, f"{ours[:80]!r}, expected {theirs[:80]!r}")


def against(comparison, name, tokenizer, texts, decode=True, specials=True):
    """`tokenizer` of PyPI, saved as tokenizer.json, against what we make of it."""
    path = comparison.folder / f"{name.replace(' ', '_')}.json"
    tokenizer.save(str(path))
    decode_of = (lambda ids: tokenizer.decode(ids, skip_special_tokens=False)) if decode else None
    compare(comparison, name, path, texts, lambda text: ids_of(tokenizer, text), decode_of, specials)
    return path


def train_byte_level(text, splitting, normalizer=None, vocabulary=2000):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = splitting, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=SPECIALS, initial_alphabet=ALPHABET,
                                                              show_progress=False))
    return tokenizer


def byte_level_after(*parts):
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def write_gguf(path, model, tokens, types, pre=None, scores=None, merges=None, **values):
    writer = GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores is not None:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges(merges)
    for key, value in values.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_array if isinstance(value, (list, bytes)) else writer.add_uint32
        add(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level_gguf(path, tokenizer, pre):
    document = json.loads(tokenizer.to_str())
    vocabulary = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)
    merges = [" ".join(merge) for merge in document["model"]["merges"]]
    write_gguf(path, "gpt2", vocabulary, [3 if token in SPECIALS else 1 for token in vocabulary], pre, merges=merges, eos_token_id=2)


def check_byte_level(comparison, source):
    all_texts = mixed(source, 400_000)
    training = "\n".join([real_text(400_000), *SAMPLES, *MORE_SAMPLES])
    digits = pre_tokenizers.Digits(individual_digits=True)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    kinds = {
        "GPT-NeoX": (gpt2, normalizers.NFC(), None),
        "StarCoder": (pre_tokenizers.Sequence([digits, gpt2]), None, ["smollm", "starcoder"]),
        "Llama 3": (byte_level_after(split(CL100K)), None, ["llama-bpe", "dbrx"]),
        "Qwen2": (byte_level_after(split(QWEN2)), normalizers.NFC(), ["qwen2"]),
        "o200k": (byte_level_after(split(O200K)), None, ["gpt-4o"]),
        "Tekken": (byte_level_after(split(TEKKEN)), None, ["tekken"]),
        "compatibility": (gpt2, normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.NFKC()]), None),
    }
    for name, (splitting, normalizer, pres) in kinds.items():
        texts = settled(all_texts) if normalizer else all_texts
        tokenizer = train_byte_level(training, splitting, normalizer)
        against(comparison, name, tokenizer, texts)
        if name in ("Llama 3", "o200k"):
            every, size = every_code_point(), 1_000_000
            # Part by part: an encoding of the reference takes some hundred bytes a token.
            parts = {f"every code point, from {at}": every[at:at + size] for at in range(0, len(every), size)}
            against(comparison, name + " all", tokenizer, parts, decode=False)
        for pre in pres or []:
            path = comparison.folder / "byte_level.gguf"
            byte_level_gguf(path, tokenizer, pre)
            whole = Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), "added_tokens": []}))
            if pre in ("llama-bpe", "tekken"):
                document = json.loads(tokenizer.to_str())
                document["model"]["ignore_merges"] = True
                document["added_tokens"] = []
                whole = Tokenizer.from_str(json.dumps(document))
            compare(comparison, f"GGUF {pre}", path, texts, lambda text: ids_of(whole, text))
            compare(comparison, f"GGUF {pre}, special tokens", path, {"samples": texts["samples"]}, lambda text: ids_of(tokenizer, text),
                    specials=True)


def check_added_tokens(comparison, source):
    """Words beside the model's vocabulary: which text they match, and what they take of the spaces around them."""
    text = "\n".join([real_text(50_000), *SAMPLES])
    tokenizer = train_byte_level(text, pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC())
    tokenizer.add_tokens([AddedToken("   ", normalized=False), AddedToken("    ", normalized=True), AddedToken("caf\u00e9", normalized=True),
                          AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True), AddedToken("<le", normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<|both|>", lstrip=True, rstrip=True)])
    texts = {"runs": "a   b    c     d      e\n\n    f", "normal forms": "cafe\u0301 caf\u00e9 un cafe", "strips": "a <left> b <right> c  <left>\n<right>\u3000\nx",
             "both": "x \n <|both|> \t y<|both|><|both|> ", "longest": "<le <left <left> <<left>>", "only": "<|both|>", "empty": ""}
    against(comparison, "added tokens", tokenizer, texts, decode=False)


def train_sentence_piece(folder, text, **options):
    """The model lies in a folder of its own, since what lies beside it would be read, too."""
    folder = folder / "piece"
    folder.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(**{
        **dict(sentence_iterator=iter(line for line in text.split("\n") if line.strip()), model_prefix=str(folder / "piece"),
               normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2, max_sentence_length=20000, num_threads=1),
        **options})
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "piece.model"))


def piece_types(processor):
    kinds = [("is_unknown", 2), ("is_control", 3), ("is_unused", 5), ("is_byte", 6)]
    types = [next((number for test, number in kinds if getattr(processor, test)(i)), 1) for i in range(processor.vocab_size())]
    return types


def check_sentence_piece(comparison, source):
    texts = mixed(source, 300_000)
    # The reference replaces what is no UTF-8 and keeps U+FFFD, so that texts must be whole.
    training = "\n".join([real_text(300_000), *SAMPLES * 3, *MORE_SAMPLES * 3])
    words = ["\n\n", "\t", "<tool>", "1"]
    runs = ["\n", "\n\n\n", METASPACE * 2, METASPACE * 3, METASPACE * 4]
    short = {label: text for label, text in texts.items() if label not in ("real", "random")}
    # To a unigram model, two ways to cut a run of spaces in runs are worth the same: which goes first hangs on how sums are rounded, and far
    # into a text that differs.
    kinds = [("bpe", "llama", words + runs, texts), ("unigram", "t5", words, texts), ("unigram", "t5", words + runs, short)]
    for kind, gguf_model, users, its_texts in kinds:
        for prefix in (True, False):
            for fallback in (True, False):
                processor = train_sentence_piece(comparison.folder, training, model_type=kind, vocab_size=1500, byte_fallback=fallback,
                                                 add_dummy_prefix=prefix, user_defined_symbols=users, character_coverage=0.999)
                pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
                types = [4 if piece in users else number for piece, number in zip(pieces, piece_types(processor))]
                path = comparison.folder / "piece.gguf"
                write_gguf(path, gguf_model, [piece.replace(METASPACE, " ") if number == 4 else piece for piece, number in zip(pieces, types)], types,
                           scores=[processor.get_score(i) for i in range(len(pieces))], add_space_prefix=prefix, bos_token_id=1, eos_token_id=2,
                           unknown_token_id=0)
                name = f"SentencePiece {kind} with {len(users)} words, prefix {prefix}, bytes {fallback}"
                compare(comparison, name, path, its_texts, processor.encode, processor.decode if fallback else None)
                if len(users) == len(words):
                    compare(comparison, f"{name}, .model", comparison.folder / "piece" / "piece.model", short, processor.encode)


def converted_sentence_piece(processor, merges, prefix, metaspace):
    """As `transformers` converts Llama's (by normaliser) and newer ones (by Metaspace)."""
    pieces = {processor.id_to_piece(i): i for i in range(processor.vocab_size())}
    tokenizer = Tokenizer(models.BPE(pieces, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=False)
    else:
        steps = [normalizers.Prepend(METASPACE)] if prefix == "always" else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", METASPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if prefix != "never" else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace(METASPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    return tokenizer


def merges_of_scores(processor):
    pieces = {processor.id_to_piece(i): processor.get_score(i) for i in range(processor.vocab_size())
              if not (processor.is_control(i) or processor.is_unknown(i) or processor.is_byte(i))}
    merges = [(score, piece[:cut], piece[cut:]) for piece, score in pieces.items() for cut in range(1, len(piece))
              if piece[:cut] in pieces and piece[cut:] in pieces]
    return [(left, right) for score, left, right in sorted(merges, key=lambda merge: -merge[0])]


def check_converted(comparison, source):
    texts = mixed(source, 300_000)
    training = "\n".join([real_text(300_000), *SAMPLES * 3, *MORE_SAMPLES * 3])
    processor = train_sentence_piece(comparison.folder, training, model_type="bpe", vocab_size=1500, byte_fallback=True)
    merges = merges_of_scores(processor)
    for metaspace in (False, True):
        for prefix in ("always", "never", *(["first"] if metaspace else [])):
            tokenizer = converted_sentence_piece(processor, merges, prefix, metaspace)
            against(comparison, f"Llama's json, Metaspace {metaspace}, prefix {prefix}", tokenizer, texts)
    first = converted_sentence_piece(processor, merges, "first", True)
    first.add_tokens([AddedToken("the", normalized=True), AddedToken("\n\n", normalized=False)])
    against(comparison, "Metaspace before the first piece, with words", first, {**texts, "word first": "the cat", "word later": "a the cat"})
    gemma = converted_sentence_piece(processor, merges, "never", False)
    gemma.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    gemma.add_tokens([AddedToken(token, normalized=False) for token in ("\n", "\n\n", "\n\n\n", "\t\t")])
    against(comparison, "Gemma's json", gemma, texts)
    llama = converted_sentence_piece(processor, merges, "always", False)
    llama.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    path = comparison.folder / "begins.json"
    llama.save(str(path))
    report = json.loads(comparison.run("info", "--tokenizer", path).stdout)
    comparison.check("begins texts", report["beginning_of_text"] == 1 and report["adds_beginning_of_text"] and report["ends"] == [2], report)


def check_unigram(comparison, source):
    texts = settled(mixed(source, 300_000))
    training = "\n".join([real_text(300_000), *SAMPLES * 3, *MORE_SAMPLES * 3])
    processor = train_sentence_piece(comparison.folder, training, model_type="unigram", vocab_size=1500)
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.vocab_size())]
    cuts = {"Metaspace": pre_tokenizers.Metaspace(), "T5": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])}
    for name, cut in cuts.items():
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()])
        tokenizer.pre_tokenizer, tokenizer.decoder = cut, decoders.Metaspace()
        tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
        against(comparison, f"unigram json, {name}", tokenizer, texts)


def protobuf_field(message, number):
    """The first field of bytes with this number in a message of Protocol Buffers."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        field, kind = divmod(varint(), 8)
        if kind == 2:
            size = varint()
            if field == number:
                return message[at:at + size]
            at += size
        else:
            at += {1: 8, 5: 4}.get(kind, 0)
            if kind == 0:
                varint()
    return b""


def check_compiled(comparison, source):
    """Normalisers that SentencePiece compiled, as T5 and XLM-R have them."""
    texts = mixed(source, 300_000)
    texts["characters that become several"] = "\ufdfa \u00bd \u2460 \u3300 \uff76\uff9e \u1e9e \u0130 \u2126 \ufb01n o\ufb03ce \u00a0\u3000\u200b\u00ad x\u0301\ufb01\u0301 \ufb01\u0301a\r\nb\rc \u1100\u1161"
    training = "\n".join([real_text(300_000), *SAMPLES * 3, *MORE_SAMPLES * 3])
    for rule in ("nmt_nfkc", "nmt_nfkc_cf"):
        processor = train_sentence_piece(comparison.folder, training, model_type="unigram", vocab_size=1500, normalization_rule_name=rule,
                                         remove_extra_whitespaces=True)
        compiled = protobuf_field(protobuf_field((comparison.folder / "piece" / "piece.model").read_bytes(), 3), 2)
        comparison.check(f"{rule} is compiled", len(compiled) > 100_000, len(compiled))
        pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.vocab_size())]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(compiled), normalizers.Replace(Regex(" {2,}"), " ")])
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
        against(comparison, f"compiled {rule}, json", tokenizer, texts)
        if rule == "nmt_nfkc":
            every, size = every_code_point(), 1_000_000
            parts = {f"every code point, from {at}": every[at:at + size] for at in range(0, len(every), size)}
            against(comparison, f"compiled {rule}, json", tokenizer, parts, decode=False)
        path = comparison.folder / "compiled.gguf"
        write_gguf(path, "t5", [piece for piece, _ in pieces], piece_types(processor), scores=[score for _, score in pieces],
                   precompiled_charsmap=compiled, remove_extra_whitespaces=True, add_space_prefix=True, bos_token_id=1, eos_token_id=2,
                   unknown_token_id=0)
        # Far into a text the sums of scores are large, and which of two nearly equal ways is taken hangs on how they are rounded.
        shorter = {**texts, "real": texts["real"][:60_000]}
        compare(comparison, f"compiled {rule}, GGUF", path, shorter, processor.encode)
        compare(comparison, f"compiled {rule}, .model", comparison.folder / "piece" / "piece.model", shorter, processor.encode)


def check_word_piece(comparison, source):
    texts = settled(mixed(source, 300_000))
    # GGUF marks words by U+2581, so that the sign itself cannot be told.
    unmarked = {label: text.replace(METASPACE, "") for label, text in texts.items()}
    for lowercase in (True, False):
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer.train_from_iterator([real_text(300_000), *SAMPLES, *MORE_SAMPLES[:5], *MORE_SAMPLES[6:]],
                                      trainers.WordPieceTrainer(vocab_size=3000, special_tokens=special, show_progress=False))
        against(comparison, f"WordPiece, lowercase {lowercase}", tokenizer, texts)
        vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
        named = [token if token in special else token[2:] if token.startswith("##") else METASPACE + token for token in vocabulary]
        path = comparison.folder / "word_piece.gguf"
        write_gguf(path, "bert", named, [3 if token in special else 1 for token in vocabulary], unknown_token_id=1, cls_token_id=2)
        compare(comparison, f"GGUF WordPiece, lowercase {lowercase}", path, unmarked, lambda text: ids_of(tokenizer, text))


# Templates that write what the published ones write, by the marks by which those are known.
TURN = "{% for message in messages %}"
CHATML = TURN + "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
DEFAULT = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are Sememe.\\nBe brief.<|im_end|>\\n' }}{% endif %}"
LLAMA3 = "<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
DATED = ("{{ bos_token }}{% set said = messages[0]['content'] | trim if messages[0]['role'] == 'system' else '' %}{{ '<|start_header_id|>system<|end_header_id|>\\n\\n"
         "Cutting Knowledge Date: December 2023\\nToday Date: 26 Jul 2024\\n\\n' + said + '<|eot_id|>' }}{% for message in messages if message['role'] != 'system' %}{{ '")
FOLD = "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set first_user_prefix = {} %}{% else %}{% set rest = messages %}{% set first_user_prefix = '' %}{% endif %}{% for message in rest %}"
GEMMA = ("{{ bos_token }}" + FOLD.replace("{}", "messages[0]['content'] + '\\n\\n'") + "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' }}"
         "{{ (first_user_prefix if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}")
LLAMA2 = (FOLD.replace("{}", "'<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n'") + "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + ((first_user_prefix if loop.first else '') + message['content']) | trim + ' [/INST]' }}"
          "{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}")
MISTRAL = "{{ bos_token }}" + TURN + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
PHI3 = TURN + "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}{# <|user|> #}"
ZEPHYR = TURN + ("{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% else %}\n"
                 "{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
FORMS = {"ChatML": CHATML, "ChatML, default": DEFAULT + CHATML, "Llama 3": "{{ bos_token }}" + TURN + "{{ '" + LLAMA3, "Llama 3.1": DATED + LLAMA3, "Gemma": GEMMA, "Llama 2": LLAMA2,
         "Mistral": MISTRAL, "Mistral 3": MISTRAL.replace("[INST] ", "[INST]").replace(" [/INST]", "[/INST]"), "Phi-3": PHI3, "Zephyr": ZEPHYR}


def check_chats(comparison, source):
    folder = comparison.folder / "chat"
    folder.mkdir()
    train_byte_level("\n".join(SAMPLES), pre_tokenizers.ByteLevel(add_prefix_space=False), vocabulary=400).save(str(folder / "tokenizer.json"))
    turns = [{"role": "user", "content": " Hello\n"}, {"role": "assistant", "content": "Hi, {{ you }}  "}, {"role": "user", "content": "What's 2+2?\n\nQuick!"}]
    system = {"role": "system", "content": " You are terse. "}
    chats = {"one": turns[:1], "three": turns, "answered": turns[:2], "system": [system, *turns], "system, one": [system, turns[0]]}
    for form, template in FORMS.items():
        settings = {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>", "chat_template": template, "tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        reference = AutoTokenizer.from_pretrained(str(folder))
        for name, messages in chats.items():
            if form.startswith("Mistral") and messages[0] is system:
                continue
            for follows in (True, False):
                expected = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=follows)
                out = comparison.folder / "chat.txt"
                error = comparison.answers.error_of(tokenizer=folder, messages=messages, out=out, follows=follows)
                ours = error or out.read_text()
                comparison.check(f"chat of {form}: {name}, answer {follows}", ours == expected, f"{ours!r}, expected {expected!r}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TURN + "{{ message['content'] }}{% endfor %}"}))
    path, out = comparison.write("messages.json", json.dumps(turns)), comparison.folder / "chat.txt"
    result = comparison.run("chat", "--tokenizer", folder, "--messages", path, "--out", out)
    comparison.check("an unknown template is refused", result.returncode == 1 and "for message in messages" in result.stderr, result.stderr)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    result = comparison.run("chat", "--tokenizer", folder, "--messages", path, "--out", out)
    comparison.check("the program writes a known one", result.returncode == 0 and out.read_text().startswith("<|im_start|>user\n Hello"), result.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sememe", required=True)
    parser.add_argument("--only", help="one of the checks, for work on it")
    arguments = parser.parse_args()
    checks = [check_byte_level, check_added_tokens, check_sentence_piece, check_converted, check_unigram, check_compiled, check_word_piece,
              check_chats]
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(os.path.abspath(arguments.sememe), pathlib.Path(folder))
        comparison.answers = Answers(comparison.sememe)
        for check in checks:
            if arguments.only in (None, check.__name__):
                check(comparison, random.Random(4))
    print(f"{comparison.passed} passed, {comparison.failed} failed")
    return comparison.failed > 0


if __name__ == "__main__":
    sys.exit(main())
