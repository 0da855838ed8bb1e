"""Dictionaries to other tools' folders and back through the program; hostile files are one clear line and nothing is left behind."""
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import check, check_error, finish, run


with tempfile.TemporaryDirectory() as work:
    root = pathlib.Path(work)
    np.save(root / "x.npy", np.random.default_rng(1).normal(size=(2048, 16)).astype(np.float32))

    def reconstruct(dictionary):
        result = run("dictionary", "reconstruct", "--dictionary", dictionary, "--activations", root / "x.npy", "--out", root / "r.npy")
        return np.load(root / "r.npy") if result.returncode == 0 else result.stderr

    run("dictionary", "train", "--activations", root / "x.npy", "--architecture", "topk", "--latents", 64, "--k", 4, "--tokens", 4096,
        "--batch", 512, "--out", root / "topk")
    wanted = reconstruct(root / "topk")
    for to in ("saelens", "sparsify", "dictionary-learning", "sememe"):
        result = run("dictionary", "convert", root / "topk", "--to", to, "--out", root / to, "--json", root / "result.json")
        check(f"convert to {to}", result.returncode == 0 and json.loads((root / "result.json").read_text())["to"] == to, result.stderr)
        got = reconstruct(root / to)
        check(f"--dictionary takes a folder of {to}", isinstance(got, np.ndarray) and np.abs(got - wanted).max() < 1e-5, got)
        again = run("dictionary", "convert", root / to, "--to", "sememe", "--out", root / "back")
        check(f"and back from {to}", again.returncode == 0 and f"from {to} to sememe" in again.stdout, again.stderr)
    check_error("what a format cannot hold", run("dictionary", "convert", root / "topk", "--to", "gemma-scope", "--out", root / "g"), 1,
                "Gemma Scope", "thresholds", "topk")
    check_error("a format that does not exist", run("dictionary", "convert", root / "topk", "--to", "magic", "--out", root / "g"), 2, "magic",
                "saelens")
    check_error("a folder of other things", run("dictionary", "convert", root / "topk", "--to", "saelens", "--out", root), 1, str(root))
    check("nothing is left behind", not (root / "g").exists() and not list(root.glob("*.tmp")) and not list(root.glob(".*")))

    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {root}/ran",)

    (root / "hostile").mkdir()
    (root / "hostile" / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoder"}}))
    torch.save({"encoder.weight": Runs()}, root / "hostile" / "ae.pt")
    check_error("a pickle that runs code", run("dictionary", "convert", root / "hostile", "--to", "sememe", "--out", root / "g"), 1, "ae.pt",
                "refuses to run code", "posix.system")
    check("the code did not run", not (root / "ran").exists())
finish()
