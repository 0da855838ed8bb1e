"""--device cuda through the program: the main job gives what it gives on the CPU, or where there is no such device one clear line."""
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import MODEL, check, check_error, finish, read, run, skip, works

SITE = "blocks.1.output"

with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    text = root / "text.txt"
    text.write_text("The old house stood on a hill above the river, and nobody had lived there for years. " * 400)

    (root / "recipe.json").write_text(json.dumps({
        "corpus": {"train": "text.txt", "heldout": "text.txt"}, "tokenizer": {"vocabulary": 300},
        "network": {"layers": 1, "width": 32, "heads": 2, "context": 32}, "training": {"tokens": 20000, "batch_tokens": 512}}))

    def main_job(device):
        """Trains a model, captures, learns, evaluates and reconstructs. -> the figures of the first and the last two"""
        at = root / device
        on = ["--device", device]
        works(f"model train on {device}", "model", "train", "--recipe", root / "recipe.json", "--out", at / "model", *on)
        works(f"capture on {device}", "capture", "--model", MODEL, "--site", SITE, "--text", text, "--tokens", 4000, "--gradients", "--out",
              at / "acts", *on)
        works(f"train on {device}", "dictionary", "train", "--activations", at / "acts", "--architecture", "gsae", "--latents", 256, "--k", 8,
              "--tokens", 40000, "--batch", 512, "--out", at / "gsae", *on)
        works(f"evaluate on {device}", "dictionary", "evaluate", "--dictionary", at / "gsae", "--model", MODEL, "--text", text, "--tokens", 2000,
              "--json", at / "evaluation.json", *on)
        works(f"reconstruct on {device}", "dictionary", "reconstruct", "--dictionary", at / "gsae", "--activations", at / "acts", "--out",
              at / "r.npy", "--json", at / "reconstruction.json", *on)
        return read(at / "model" / "training.json"), read(at / "evaluation.json"), read(at / "reconstruction.json")

    bare = run("capture", "--model", MODEL, "--site", SITE, "--text", text, "--tokens", 10, "--out", root / "probe", "--device", "cuda")
    check_error("a device that is none", run("capture", "--model", MODEL, "--site", SITE, "--text", text, "--out", root / "x", "--device", "tpu"),
                2, "tpu", "cpu or cuda")
    (root / "cpu").mkdir()
    on_cpu = main_job("cpu")
    if bare.returncode == 0:
        (root / "cuda").mkdir()
        for name, there, here in zip(["model", "evaluation", "reconstruction"], main_job("cuda"), on_cpu):
            off = {key: (there.get(key), value) for key, value in here.items()
                   if key in ("heldout_bits_per_byte", "fvu", "l0", "ce_clean", "ce_recovered", "kl") and not abs(there.get(key, 1e9) - value) <= 0.05 * abs(value)}
            check(f"{name} on cuda is that on the CPU", here and not off, off)
    else:
        check_error("without a CUDA device it says so", bare, 2, "--device cuda", "sees no CUDA device")
        skip("the main job on cuda", "LibTorch can use no CUDA device here")

finish()
