"""What Sememe writes, the packages of other tools load with the same codes and reconstructions; what they write, Sememe loads likewise.

Run from the repository root: .venv/bin/python tests/features/interchange_oracle.py --sememe build/release/bin/sememe
The packages live in .venv-peers, which ./setup --peers makes; this file runs itself there with --peers-side.
"""

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import safetensors.torch
import torch

PEERS = {"saelens": ("sae_lens", "sae-lens"), "dictionary-learning": ("dictionary_learning", "dictionary-learning"),
         "sparsify": ("sparsify", "eai-sparsify")}
ROWS, WIDTH, LATENTS, K = 48, 16, 96, 5
TOLERANCE = 1e-5


def randomize(module, generator):
    """Every parameter random, so that none is left out unnoticed; thresholds are positive."""
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            values = torch.randn(tensor.shape, generator=generator)
            if "threshold" in name:
                values = values.abs() * 0.5
            elif "mag" in name:
                values = values * 0.3
            tensor.copy_(values.to(tensor.dtype))


def dense(values, indices):
    return torch.zeros(values.shape[0], LATENTS).scatter(1, indices, values)


class SaeLens:
    @staticmethod
    def load(folder):
        import sae_lens
        return sae_lens.SAE.load_from_disk(folder, dtype="float32")

    @staticmethod
    def run(sae, x):
        codes = sae.encode(x)
        return codes, sae.decode(codes)

    @staticmethod
    def make(root, x, generator):
        import sae_lens
        sizes = {"d_in": WIDTH, "d_sae": LATENTS}
        metadata = {"hook_name": "blocks.5.hook_resid_post", "model_name": "gpt2-small"}
        topk = {"k": K}
        made = {"standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
                "standard, not centred": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {"apply_b_dec_to_input": False}),
                "standard, bfloat16": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {"dtype": "bfloat16"}),
                "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, topk),
                "topk, rescaled": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {**topk, "rescale_acts_by_decoder_norm": True}),
                "topk, not centred": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {**topk, "apply_b_dec_to_input": False}),
                "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
                "jumprelu, not centred": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {"apply_b_dec_to_input": False}),
                "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {}),
                "gated, not centred": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {"apply_b_dec_to_input": False})}
        for name, (kind, config, options) in made.items():
            sae = kind(config(**sizes, **options))
            for key, value in metadata.items():
                sae.cfg.metadata[key] = value
            randomize(sae, generator)
            sae.save_model(root / f"made by saelens: {name}")
            yield f"made by saelens: {name}", *SaeLens.run(sae.to(dtype=torch.float32), x)
        sae = sae_lens.StandardSAE(sae_lens.StandardSAEConfig(**sizes))
        randomize(sae, generator)
        sae.fold_activation_norm_scaling_factor(0.3)
        sae.save_model(root / "made by saelens: scale folded")
        yield "made by saelens: scale folded", *SaeLens.run(sae, x)
        training = sae_lens.BatchTopKTrainingSAE(sae_lens.BatchTopKTrainingSAEConfig(**sizes, k=K))
        randomize(training, generator)
        training.topk_threshold = torch.tensor(1.5, dtype=torch.double)
        folder = root / "made by saelens: batchtopk"
        training.save_inference_model(folder)
        yield "made by saelens: batchtopk", *SaeLens.run(SaeLens.load(folder), x)
        training.save_model(root / "made by saelens: batchtopk in training")  # the same dictionary, its codes in units of norms
        codes, reconstruction = SaeLens.run(SaeLens.load(folder), x)
        yield "made by saelens: batchtopk in training", None, reconstruction


class DictionaryLearning:
    @staticmethod
    def load(folder):
        from dictionary_learning.dictionary import AutoEncoder
        from dictionary_learning.utils import load_dictionary
        if json.loads((folder / "config.json").read_text())["trainer"]["dict_class"] == "AutoEncoder":
            return AutoEncoder.from_pretrained(folder / "ae.pt", normalize_decoder=False)  # else its codes are in units of norms
        return load_dictionary(str(folder), "cpu")[0]

    @staticmethod
    def run(dictionary, x):
        codes = dictionary.encode(x)
        return codes, dictionary.decode(codes)

    @staticmethod
    def make(root, x, generator):
        from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
        from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
        from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
        from dictionary_learning.trainers.top_k import AutoEncoderTopK
        made = [AutoEncoder(WIDTH, LATENTS), AutoEncoderNew(WIDTH, LATENTS), GatedAutoEncoder(WIDTH, LATENTS),
                JumpReluAutoEncoder(WIDTH, LATENTS), AutoEncoderTopK(WIDTH, LATENTS, K), BatchTopKSAE(WIDTH, LATENTS, K),
                MatryoshkaBatchTopKSAE(WIDTH, LATENTS, K, [32, 64])]
        for dictionary in made:
            kind = type(dictionary).__name__
            randomize(dictionary, generator)
            if "Batch" in kind:
                dictionary.threshold.fill_(1.5)
            folder = root / f"made by dictionary-learning: {kind}"
            folder.mkdir()
            torch.save(dictionary.state_dict(), folder / "ae.pt")
            trainer = {"dict_class": kind, "activation_dim": WIDTH, "dict_size": LATENTS, "lm_name": "EleutherAI/pythia-70m", "layer": 3,
                       "submodule_name": "resid_post_layer_3"}
            if hasattr(dictionary, "k"):
                trainer["k"] = K
            (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))
            yield folder.name, *DictionaryLearning.run(dictionary, x)


class Sparsify:
    @staticmethod
    def load(folder):
        import sparsify
        return sparsify.SparseCoder.load_from_disk(folder)

    @staticmethod
    def run(coder, x):
        values, indices, _ = coder.encode(x)
        return dense(values, indices), coder.decode(values, indices)

    @staticmethod
    def make(root, x, generator):
        import sparsify
        for name, options in {"latents": {"num_latents": LATENTS}, "factor": {"expansion_factor": LATENTS // WIDTH}}.items():
            coder = sparsify.SparseCoder(WIDTH, sparsify.SparseCoderConfig(k=K, **options))
            randomize(coder, generator)
            coder.save_to_disk(root / f"made by sparsify: {name}")
            yield f"made by sparsify: {name}", *Sparsify.run(coder, x)


def peers_side(work):
    """In .venv-peers: runs what Sememe wrote into in/ and adds what the peers make; codes go to peer/, what fails to peer/NAME.error."""
    x = torch.from_numpy(np.load(work / "x.npy"))
    torch.set_grad_enabled(False)
    for format_name, peer in {"saelens": SaeLens, "dictionary-learning": DictionaryLearning, "sparsify": Sparsify}.items():
        try:
            importlib.import_module(PEERS[format_name][0])
        except ImportError as error:
            (work / f"{format_name}.missing").write_text(str(error))
            continue

        def keep(name, codes, reconstruction):
            tensors = {"reconstruction": reconstruction.contiguous()} | ({} if codes is None else {"codes": codes.contiguous()})
            safetensors.torch.save_file(tensors, work / "peer" / f"{name}.safetensors")

        for folder in sorted((work / "in").glob(f"{format_name}.*")):
            try:
                keep(folder.name, *peer.run(peer.load(folder), x))
            except Exception as error:  # whatever it is, the peer could not load what we wrote
                (work / "peer" / f"{folder.name}.error").write_text(f"{type(error).__name__}: {error}")
        for name, codes, reconstruction in peer.make(work / "in", x, torch.Generator().manual_seed(3)):
            keep(name, codes, reconstruction)


def gemma_scope(folder, x):
    """As Gemma Scope's paper defines it (Lieberum et al. 2024, section 2), in NumPy: no package of its own is on PyPI."""
    with np.load(folder / "params.npz") as parameters:
        pre_activations = x @ parameters["W_enc"] + parameters["b_enc"]
        codes = np.where(pre_activations > parameters["threshold"], np.maximum(pre_activations, 0), 0).astype(np.float32)
        return torch.from_numpy(codes), torch.from_numpy(codes @ parameters["W_dec"] + parameters["b_dec"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sememe", type=pathlib.Path, default=pathlib.Path("build/release/bin/sememe"))
    parser.add_argument("--peers-side", type=pathlib.Path)
    options = parser.parse_args()
    if options.peers_side:
        return peers_side(options.peers_side)
    program = options.sememe.parent / "features_test"
    peers = pathlib.Path(".venv-peers/bin/python")
    passed = failed = skipped = 0

    def check(name, problem):
        nonlocal passed, failed
        passed, failed = passed + (not problem), failed + bool(problem)
        print(f"failed: {name}: {problem}" if problem else f"ok: {name}")

    def run_test(name, work):
        run = subprocess.run([program, "--gtest_also_run_disabled_tests", f"--gtest_filter=InterchangeOracle.DISABLED_{name}"],
                             env={**os.environ, "SEMEME_ORACLE_FOLDER": str(work)}, capture_output=True, text=True, check=False)
        check(name, "" if run.returncode == 0 and "1 test" in run.stdout else run.stdout + run.stderr)

    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        for name in ("in", "out", "peer"):
            (work / name).mkdir()
        x = (np.random.default_rng(7).normal(size=(ROWS, WIDTH)) * 2).astype(np.float32)
        np.save(work / "x.npy", x)
        run_test("WritesEveryFormat", work)
        missing = dict(PEERS)
        if peers.exists():
            run = subprocess.run([peers, "-W", "ignore", __file__, "--peers-side", str(work)], capture_output=True, text=True, check=False)
            check("the peers' side", run.stderr[-2000:] if run.returncode else "")
            missing = {name: names for name, names in PEERS.items() if (work / f"{name}.missing").exists()}
        for name, (_, package) in missing.items():
            skipped += 1
            reason = (work / f"{name}.missing").read_text() if (work / f"{name}.missing").exists() else "run ./setup --peers"
            print(f"skipped: {package} is not installed: {reason}")
        for folder in (work / "in").glob("gemma-scope.*"):
            codes, reconstruction = gemma_scope(folder, x)
            safetensors.torch.save_file({"codes": codes, "reconstruction": reconstruction}, work / "peer" / f"{folder.name}.safetensors")
        run_test("EncodesWithEveryDictionaryOfTheFolder", work)
        for folder in sorted((work / "in").iterdir()):
            if any(folder.name.startswith(f"{name}.") for name in missing):
                continue
            ours, theirs = work / "out" / f"{folder.name}.safetensors", work / "peer" / f"{folder.name}.safetensors"
            problem = next((path.read_text() for path in (pathlib.Path(f"{ours}.error"), work / "peer" / f"{folder.name}.error")
                            if path.exists()), "")
            if not problem:
                got, wanted = safetensors.torch.load_file(ours), safetensors.torch.load_file(theirs)
                for key, value in wanted.items():
                    difference = (got[key] - value).abs().max().item()
                    scale = max(1.0, value.abs().max().item())
                    if not difference < TOLERANCE * scale:
                        problem += f"{key} differ by {difference:.2g} of {scale:.2g}; "
                if not (wanted["reconstruction"].abs().max() > 0 and got["codes"].count_nonzero() > 0):
                    problem += "no latent fires, so that nothing was compared"
            check(folder.name, problem)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
