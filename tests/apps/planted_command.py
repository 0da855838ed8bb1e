"""Planted truth through the command line: sparse sums of known unit directions are learnt from a .npy, and the directions are found again."""
import pathlib
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import check, finish, works

DIRECTIONS, WIDTH, PROBABILITY, ROWS = 512, 64, 0.01, 200_000

with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    for seed in [1, 2, 3]:
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=(DIRECTIONS, WIDTH)).astype(np.float32)
        truth /= np.linalg.norm(truth, axis=1, keepdims=True)
        active = rng.random((ROWS, DIRECTIONS), dtype=np.float32) < PROBABILITY
        rows = (active * rng.uniform(0.5, 1.5, (ROWS, DIRECTIONS)).astype(np.float32)) @ truth
        np.save(root / "rows.npy", rows)
        result = works(f"seed {seed}: a dictionary is learnt", "dictionary", "train", "--activations", root / "rows.npy", "--architecture",
                       "topk", "--latents", DIRECTIONS, "--k", 5, "--tokens", 2_000_000, "--seed", seed, "--out", root / "out")
        if result.returncode:
            continue
        atoms = load_file(root / "out" / "dictionary.safetensors")["decoder"]
        cosines = (truth @ (atoms / np.linalg.norm(atoms, axis=1, keepdims=True)).T).max(axis=1)
        mean = cosines.mean()
        check(f"seed {seed}: mean max cosine {mean:.4f} is at least 0.95", mean >= 0.95)

finish()
