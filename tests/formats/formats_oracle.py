"""Files of NumPy, of PyTorch and of the reference safetensors library, read and written again by Sememe, must hold the same values.

Run from the repository root: .venv/bin/python tests/formats/formats_oracle.py --sememe build/release/bin/sememe
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import safetensors
import safetensors.torch
import torch

TORCH_DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64,
                torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
                torch.float16, torch.bfloat16, torch.float32,
                torch.float64, torch.complex64]
NUMPY_TYPES = ["?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"]
SHAPES = [(), (0,), (7,), (3, 5), (2, 0, 4), (2, 3, 4)]


def random_bytes(count, generator, boolean):
    return generator.integers(0, 2 if boolean else 256, size=count, dtype=np.uint8)


def random_tensor(dtype, shape, generator):
    count = int(np.prod(shape)) * dtype.itemsize
    raw = torch.from_numpy(random_bytes(max(count, 1), generator, dtype == torch.bool))[:count]
    return raw.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def make_reference(folder, generator):
    torch_files, numpy_files = {}, {}
    for dtype in TORCH_DTYPES:
        name = str(dtype).removeprefix("torch.")
        tensors = {f"{name} {shape} é": random_tensor(dtype, shape, generator) for shape in SHAPES}
        safetensors.torch.save_file(tensors, folder / f"{name}.safetensors", metadata={"format": "pt", "type": name})
        torch_files[name] = tensors
    for kind in NUMPY_TYPES:
        for index, shape in enumerate(SHAPES):
            count = int(np.prod(shape)) * np.dtype(kind).itemsize
            array = np.frombuffer(random_bytes(count, generator, kind == "?").tobytes(), dtype=kind).reshape(shape)
            name = f"{np.dtype(kind).name}-{index}"
            with open(folder / f"{name}.npy", "wb") as file:
                np.lib.format.write_array(file, array, version=[(1, 0), (2, 0), (3, 0)][index % 3])
            numpy_files[name] = array
    return torch_files, numpy_files


def make_archives(folder, generator):
    """.npz and .pt files as people save them: deflated, by columns, with other strides, shared storages, parameters, nested dicts."""
    arrays = {f"{kind.strip('<')} {shape}": np.frombuffer(random_bytes(int(np.prod(shape)) * np.dtype(kind).itemsize, generator, kind == "?")
                                                          .tobytes(), dtype=kind).reshape(shape) for kind in NUMPY_TYPES for shape in SHAPES}
    arrays["by columns"] = np.asfortranarray(arrays["f4 (2, 3, 4)"])
    np.savez(folder / "stored.npz", **arrays)
    np.savez_compressed(folder / "deflated.npz", **arrays)
    whole = torch.arange(60, dtype=torch.float32).reshape(5, 12)
    states = {"plain": {f"{dtype} {shape}": random_tensor(dtype, shape, generator) for shape in SHAPES for dtype in
                        [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
                         torch.float32, torch.float64]},
              "views": {"whole": whole, "turned": whole.T, "part": whole[1:4, 2:9:3], "row": whole[2], "column": whole[:, 3],
                        "number": whole[3, 3]},
              "module": torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).state_dict(),
              "parameter": {"weight": torch.nn.Parameter(whole.clone())}}
    for name, state in states.items():
        for protocol in (2, 3, 4, 5):
            torch.save(state, folder / f"{name}-{protocol}.pt", pickle_protocol=protocol)
    return arrays, states


def same_tensors(path, wanted):
    got = safetensors.torch.load_file(path)
    return got.keys() == wanted.keys() and all(
        got[key].dtype == wanted[key].dtype and got[key].shape == wanted[key].shape and raw(got[key]) == raw(wanted[key]) for key in wanted)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sememe", type=pathlib.Path, default=pathlib.Path("build/release/bin/sememe"))
    program = parser.parse_args().sememe.parent / "formats_test"
    passed, failed = 0, 0

    def check(name, holds):
        nonlocal passed, failed
        passed, failed = passed + bool(holds), failed + (not holds)
        if not holds:
            print(f"failed: {name}")

    with tempfile.TemporaryDirectory() as work:
        reference, copied = pathlib.Path(work, "reference"), pathlib.Path(work, "copied")
        reference.mkdir()
        copied.mkdir()
        torch_files, numpy_files = make_reference(reference, np.random.default_rng(1))
        arrays, states = make_archives(reference, np.random.default_rng(2))
        run = subprocess.run([program, "--gtest_also_run_disabled_tests", "--gtest_filter=Oracle.*"],
                             env={**os.environ, "SEMEME_ORACLE_FOLDER": work}, capture_output=True, text=True, check=False)
        if run.returncode != 0 or "1 test" not in run.stdout:
            print(run.stdout, run.stderr)
            print("0 passed, 1 failed")
            return 1
        for name, tensors in torch_files.items():
            path = copied / f"{name}.safetensors"
            check(f"safetensors {name}", same_tensors(path, tensors))
            with safetensors.safe_open(path, "pt") as file:
                check(f"safetensors metadata {name}", file.metadata() == {"format": "pt", "type": name})
        for name, array in numpy_files.items():
            got = safetensors.torch.load_file(copied / f"{name}.npy.safetensors")["array"]
            check(f"npy {name}", got.shape == array.shape and raw(got) == array.tobytes() and str(got.dtype) == f"torch.{array.dtype.name}")
            if array.dtype == np.float32 and array.ndim == 2:
                again = np.load(copied / f"{name}.npy")
                check(f"npy written {name}", again.dtype == array.dtype and again.shape == array.shape and again.tobytes() == array.tobytes())
        for name in ("stored", "deflated"):
            with np.load(copied / f"{name}.npz") as got:
                for key, array in arrays.items():
                    check(f"npz {name} {key}", got[key].dtype == array.dtype and got[key].shape == array.shape
                          and got[key].tobytes() == array.tobytes())
        for name, state in states.items():
            for protocol in (2, 3, 4, 5):
                got = torch.load(copied / f"{name}-{protocol}.pt", weights_only=True)
                check(f"checkpoint {name} protocol {protocol}", got.keys() == state.keys() and all(
                    got[key].dtype == value.dtype and got[key].shape == value.shape and raw(got[key]) == raw(value.detach())
                    for key, value in state.items()))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
