"""Planted truth through the command line: sparse sums of known unit directions are learnt from a .npy, and the directions are found again."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

parser = argparse.ArgumentParser()
parser.add_argument("--sememe", required=True)
options = parser.parse_args()
SEMEME = os.path.abspath(options.sememe)
DIRECTIONS, WIDTH, PROBABILITY, ROWS = 512, 64, 0.01, 200_000
passed = failed = 0


def check(name, condition, detail=""):
    global passed, failed
    passed, failed = passed + bool(condition), failed + (not condition)
    print(("ok      " if condition else "FAILED  ") + name + (f": {detail}" if detail != "" else ""))


with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    for seed in [1, 2, 3]:
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=(DIRECTIONS, WIDTH)).astype(np.float32)
        truth /= np.linalg.norm(truth, axis=1, keepdims=True)
        active = rng.random((ROWS, DIRECTIONS), dtype=np.float32) < PROBABILITY
        rows = (active * rng.uniform(0.5, 1.5, (ROWS, DIRECTIONS)).astype(np.float32)) @ truth
        np.save(root / "rows.npy", rows)
        result = subprocess.run([SEMEME, "dictionary", "train", "--activations", root / "rows.npy", "--architecture", "topk", "--latents",
                                 str(DIRECTIONS), "--k", "5", "--tokens", "2000000", "--seed", str(seed), "--out", root / "out", "--json",
                                 root / "out.json"], capture_output=True, text=True, timeout=600)
        check(f"seed {seed}: a dictionary is learnt", result.returncode == 0, result.stderr[-300:] if result.returncode else "")
        if result.returncode:
            continue
        atoms = load_file(root / "out" / "dictionary.safetensors")["decoder"]
        cosines = (truth @ (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)).T).max(axis=1)
        check(f"seed {seed}: mean max cosine is at least 0.95", cosines.mean() >= 0.95, round(float(cosines.mean()), 4))

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
