"""Semi-NMF through the command line: one factorisation, and a hierarchy with a dictionary a level and its tree."""
import pathlib
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from program import check, check_error, finish, read, run, works

with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    rng = np.random.default_rng(1)
    rows = (rng.random((400, 12)) * (rng.random((400, 12)) < 0.3)) @ rng.normal(size=(12, 32))
    np.save(root / "rows.npy", rows.astype(np.float32))
    common = ["--activations", root / "rows.npy", "--kept", 0.5, "--iterations", 100, "--quiet"]

    works("rows are factorised", "dictionary", "factorize", *common, "--features", 8, "--out", root / "one")
    check("it has 8 features", read(root / "one" / "training.json").get("features") == 8)

    works("a hierarchy is factorised", "dictionary", "factorize", *common, "--ranks", "12,6,3", "--out", root / "tree",
          "--json", root / "result.json")
    tree = read(root / "tree" / "tree.json")
    check("the tree has the ranks", tree.get("ranks") == [12, 6, 3], tree.get("ranks"))
    check("each feature above the first level is a node", len(tree.get("nodes", [])) == 9, len(tree.get("nodes", [])))
    check("no feature has one child", all(len(node["children"]) != 1 for node in tree.get("nodes", [])))
    check("the tree is there for Graphviz", (root / "tree" / "tree.dot").read_text().startswith("digraph"))
    for level, rank in enumerate([12, 6, 3]):
        coefficients = load_file(root / "tree" / f"level-{level}" / "coefficients.safetensors")["coefficients"]
        check(f"level {level} has coefficients for the rows", coefficients.shape == (400, rank) and (coefficients >= 0).all(),
              coefficients.shape)
    works("the levels are dictionaries", "dictionary", "compare", root / "tree", "--quiet")
    works("a hierarchy takes the place of another", "dictionary", "factorize", *common, "--ranks", "6,3", "--out", root / "tree")
    check("nothing of the other is left", not (root / "tree" / "level-2").exists())

    check_error("ranks that rise are refused", run("dictionary", "factorize", *common, "--ranks", "3,6", "--out", root / "x"), 2, "--ranks",
                "descending")
    check_error("ranks and features are not both", run("dictionary", "factorize", *common, "--ranks", "6,3", "--features", 5, "--out",
                                                       root / "x"), 2, "--ranks")
    check("nothing was written", not (root / "x").exists())

finish()
