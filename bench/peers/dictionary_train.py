"""One peer's TopK training step on the workload that `sememe bench dictionary-train` gives: random rows, the peer's own loss, backward
and optimiser, timed after a warm-up step. Prints one line of JSON. --list prints the peers that are installed here.
"""
import argparse
import contextlib
import importlib.machinery
import importlib.metadata
import io
import json
import os
import resource
import sys
import time
import warnings
from unittest import mock

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
PACKAGES = {"SAELens": "sae-lens", "dictionary-learning": "dictionary-learning", "sparsify": "eai-sparsify"}


def saelens(torch, options):
    sys.modules["wandb"] = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec("wandb", None))  # logs to a server; nothing here does
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=options.width, d_sae=options.latents, k=options.k, dtype="float32", device=options.device))
    optimiser = torch.optim.Adam(sae.parameters(), lr=1e-4)
    dead = torch.zeros(options.latents, dtype=torch.bool, device=options.device)

    def step(rows, number):
        output = sae.training_forward_pass(TrainStepInput(sae_in=rows, coefficients={}, dead_neuron_mask=dead, n_training_steps=number,
                                                          is_logging_step=False))
        optimiser.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimiser.step()

    return step


def dictionary_learning(torch, options):
    from dictionary_learning.trainers.top_k import TopKTrainer
    trainer = TopKTrainer(steps=100_000, activation_dim=options.width, dict_size=options.latents, k=options.k, layer=0, lm_name="none",
                          lr=1e-4, device=options.device, seed=1)
    return lambda rows, number: trainer.update(number, rows)


def sparsify(torch, options):
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig
    sae = SparseCoder(options.width, SparseCoderConfig(num_latents=options.latents, k=options.k), device=options.device, dtype=torch.float32)
    optimiser = torch.optim.Adam(sae.parameters(), lr=1e-4)

    def step(rows, number):
        sae.set_decoder_norm_to_unit_norm()
        output = sae(rows)
        output.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()

    return step


STEPS = {"SAELens": saelens, "dictionary-learning": dictionary_learning, "sparsify": sparsify}


def installed():
    found = []
    for name, package in PACKAGES.items():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(package)
            found.append(name)
    return found


parser = argparse.ArgumentParser()
parser.add_argument("--list", action="store_true")
parser.add_argument("--peer", choices=STEPS)
for name, default in [("width", 768), ("latents", 16384), ("k", 32), ("batch", 4096), ("steps", 3), ("threads", 2)]:
    parser.add_argument("--" + name, type=int, default=default)
parser.add_argument("--device", default="cpu")
options = parser.parse_args()
if options.list:
    print(json.dumps(installed()))
    sys.exit()

with contextlib.redirect_stdout(io.StringIO()):
    import torch
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    step = STEPS[options.peer](torch, options)
    rows = torch.randn(options.batch, options.width, device=options.device)
    wait = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    step(rows, 0)
    wait()
    start = time.perf_counter()
    for number in range(options.steps):
        step(rows, number + 1)
    wait()
    seconds = time.perf_counter() - start
print(json.dumps({"peer": options.peer, "version": importlib.metadata.version(PACKAGES[options.peer]),
                  "tokens_per_second": options.batch * options.steps / seconds,
                  "peak_mib": (torch.cuda.max_memory_allocated() / 2**20 if options.device == "cuda" else
                               resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}))
