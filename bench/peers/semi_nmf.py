"""The published iteration of semi-NMF with winner-take-all (arXiv 2506.10920), as written there, in NumPy float32: times it on the data of
a .safetensors with "activations" [rows, width] and "coefficients" [rows, features] to begin with, and prints seconds and losses as JSON.
With --exact all of it is in float64: how far the curve of the same iteration parts from that one by rounding alone.
"""
import argparse
import json
import math
import time

import numpy as np
from safetensors.numpy import load_file

parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("--kept", type=float, default=0.01)
parser.add_argument("--iterations", type=int, default=20)
parser.add_argument("--exact", action="store_true")
options = parser.parse_args()
data = load_file(options.data)
kind = np.float64 if options.exact else np.float32
a, g = np.ascontiguousarray(data["activations"].T, dtype=kind), data["coefficients"].astype(kind)
winners = math.ceil(options.kept * a.shape[0])


def parts(matrix):
    size = np.abs(matrix)
    return (size + matrix) / 2, (size - matrix) / 2


losses = []
start = time.perf_counter()
for _ in range(options.iterations):
    # In double, or rounding decides between winners that nearly tie and the curves part.
    f = np.linalg.solve((g.T @ g).astype(np.float64) + 1e-6 * np.eye(g.shape[1]), (a @ g).T.astype(np.float64)).T.astype(kind)
    size = np.abs(f)
    f[size < np.partition(size, -winners, axis=0)[-winners]] = 0
    norms = np.linalg.norm(g, axis=0) + 1e-8
    g, f = g / norms, f * norms
    p_up, p_down = parts(a.T @ f)
    q_up, q_down = parts(f.T @ f)
    g = g * np.sqrt((p_up + g @ q_down) / (p_down + g @ q_up + 1e-6))
    residual = a - f @ g.T
    losses.append(float(np.vecdot(residual, residual).sum(dtype=np.float64)))  # the norm of all in float32 would be off by 1e-4
print(json.dumps({"seconds": time.perf_counter() - start, "losses": losses}))
