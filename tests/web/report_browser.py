"""The report in a real browser, at a wide and a narrow window: everything is drawn, nothing runs over, search and sorting work."""
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from browser import look
from program import check, finish, works


work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)

# A run made by hand, with text that would break a page that trusts it.
HOSTILE = "</script><img src=x onerror=document.title='broken'>"


def latent(index):
    words = [HOSTILE] if index == 0 else [f"word{index}", "und" + "so" * 40]
    return {"latent": index, "firings": 40, "density": 0.001 * (index + 1), "clarity": 1 - 0.02 * index, "maximum": 4.0,
            "typical_maximum": 3.9, "mean": 2.0, "histogram": [1] * 20,
            "key_words": [{"text": word, "z": 5.0, "firings": 9, "occurrences": 10} for word in words],
            "context_words": [{"text": "before", "z": 3.0, "firings": 5, "occurrences": 9}],
            "fires_on": [{"text": " token", "value": 0.5}] * 6,
            "promoted": [{"text": " promoted", "value": 0.4}] * 8, "suppressed": [{"text": "\n", "value": -0.4}] * 8,
            "nearest": [{"latent": (index + 1) % 30, "cosine": 0.5}] * 3,
            "examples": [{"group": group, "activation": 3.0, "parts": ["some ", f"word{index}", " after"], "activations": [0, 3.0, 1.0],
                          "peak": 1} for group in ["top", "top", "75%", "50%", "25%"]]}


evaluation = {"tokens": 1000, "l0": 16.0, "fvu": 0.1, "explained_variance": 0.9, "dead": 3, "dense": 1, "ce_clean": 3.0, "ce_zero": 8.0,
              "ce_mean": 7.0, "ce_dictionary": 3.1, "ce_recovered": 0.98, "ce_recovered_mean": 0.97, "kl": 0.05}
curve = [{"tokens": 1000 * (i + 1), "loss": 1 / (i + 1), "fvu": 0.5 / (i + 1), "l0": 16.0, "dead": i} for i in range(50)]
for name in ["topk", "gsae"]:
    (root / name).mkdir()
    (root / name / "config.json").write_text(json.dumps({"architecture": name, "latents": 30, "width": 8, "k": 4, "site": "blocks.1.output"}))
    (root / name / "dictionary.safetensors").write_bytes(b"")
    (root / name / "training.json").write_text(json.dumps({"tokens": 50000, "loss": 0.1, "fvu": 0.1, "l0": 16.0, "dead": 0,
                                                           "tokens_per_second": 9999.0, "curve": curve}))
    (root / f"{name}-evaluation.json").write_text(json.dumps(evaluation))
    (root / f"{name}-description").mkdir()
    (root / f"{name}-description" / "latents.jsonl").write_text("".join(json.dumps(latent(i)) + "\n" for i in range(30)))
    (root / f"{name}-description" / "summary.json").write_text(
        json.dumps({"tokens": 1000, "median_clarity": 0.7, "dead": 0, "dense": 0, "clearest": list(range(30))}))
move = [{"text": HOSTILE, "before": 0.1, "after": 0.2}]
(root / "topk-steering.json").write_text(json.dumps(
    {"latent": 1, "dictionary": "topk", "key_words": ["word1"], "prompt": "It is", "before": HOSTILE, "unit": 3.0, "unit_meaning": "the norm",
     "steered": [{"strength": 2.0, "norm": 6.0, "after": " after", "kl": 0.3, "raised": move, "lowered": move}]}))
(root / "edited-steering.json").write_text(json.dumps(
    {"edits": ["add 1=2", "ablate 9"], "dictionary": "topk", "prompt": "It is", "before": HOSTILE, "after": " edited text", "kl": 0.3,
     "raised": move, "lowered": move}))
works("the report is written", "report", root, "--out", root / "report.html")

# What a person would do and see, as a script at the end of the page that leaves its findings in the document.
PROBE = """
<script>
addEventListener('error', event => { window.failure = event.message; });
setTimeout(() => {
  const cards = () => [...document.querySelectorAll('.card')];
  const seen = {
    failure: window.failure ?? null, title: document.title, sideways: document.documentElement.scrollWidth - innerWidth,
    headings: [...document.querySelectorAll('h2')].map(one => one.textContent), cards: cards().length, images: document.images.length,
    steered: [...document.querySelectorAll('.steer h3')].map(one => one.textContent),
    charts: document.querySelectorAll('figure svg').length, rows: document.querySelectorAll('tbody tr').length,
    hot: document.querySelectorAll('.passage mark').length, text: document.body.innerText.includes('<' + '/script>'),
    links: document.querySelectorAll('.facts a').length, addresses: document.body.innerText.includes('file:'),
    spilling: [...document.querySelectorAll('.facts')].filter(one => one.scrollWidth > one.clientWidth + 1).length,
  };
  const search = document.querySelector('input[type=search]');
  search.value = 'word7';
  search.dispatchEvent(new Event('input', {bubbles: true}));
  setTimeout(() => {
    seen.found = cards().map(card => card.id);
    const place = document.createElement('pre');
    place.id = 'probe';
    place.textContent = JSON.stringify(seen);
    document.body.append(place);
  }, 500);
}, 700);
</script>"""
for width in [1280, 420]:
    seen = look(root / "report.html", PROBE, width)
    check(f"{width}: no script fails", seen.get("failure", "nothing was seen") is None, seen.get("failure"))
    check(f"{width}: text from the data stays text", seen.get("title") == "Sememe report" and seen.get("images") == 0 and seen.get("text"), seen)
    check(f"{width}: nothing runs over the side", seen.get("sideways", 1) <= 0 and seen.get("spilling") == 0, seen)
    check(f"{width}: table, charts, cards and heat are drawn", seen.get("rows", 0) >= 10 and seen.get("charts", 0) >= 2 and
          seen.get("cards", 0) >= 20 and seen.get("hot", 0) > 40, seen)
    check(f"{width}: steering and edits are shown", len(seen.get("steered", [])) == 2 and "add 1=2, ablate 9" in seen["steered"][0] and
          "latent 1" in seen["steered"][1], seen.get("steered"))
    check(f"{width}: near latents are links by number", seen.get("links", 0) > 0 and not seen.get("addresses"), seen)
    check(f"{width}: search finds the latent by its word", seen.get("found") == ["d0-7"], seen.get("found"))

finish()
