"""The comparison of dictionaries in a real browser, at a wide and a narrow window: everything is drawn, nothing runs over."""
import json
import pathlib
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from browser import look
from program import check, finish, works


def sememe(*arguments):
    works(" ".join(map(str, arguments[:2])) + " works", *arguments, "--threads", 1, "--quiet")


work = tempfile.TemporaryDirectory()
root = pathlib.Path(work.name)
run = root / "run"

# Seeds, ks and sizes, one with a name that would break a page that trusts it; evaluations of all but one.
np.save(root / "rows.npy", np.random.default_rng(1).normal(size=(2000, 16)).astype(np.float32))
sememe("dictionary", "sweep", "--activations", root / "rows.npy", "--latents", 32, "--k", "2,4", "--seeds", "1,2", "--tokens", 4000, "--out", run)
sememe("dictionary", "train", "--activations", root / "rows.npy", "--latents", 64, "--k", 2, "--tokens", 4000, "--out",
       run / "<img src=x onerror=document.title='broken'>")
for place, folder in enumerate(sorted(path for path in run.iterdir() if path.is_dir())[1:]):
    (run / f"{folder.name}-evaluation.json").write_text(json.dumps(
        {"tokens": 1000, "l0": 2.0 + place, "fvu": 0.2, "dead": place, "ce_recovered": 0.9 + 0.01 * place, "ce_recovered_low": 0.89 + 0.01 * place,
         "ce_recovered_high": 0.91 + 0.01 * place, "ce_clean": 3.0, "kl": 0.1}))
sememe("dictionary", "compare", run, "--activations", root / "rows.npy", "--threshold", 0.3, "--out", root / "compare.html")

# What a person would see, as a script at the end of the page that leaves its findings in the document.
PROBE = """
<script>
addEventListener('error', event => { window.failure = event.message; });
setTimeout(() => {
  const count = selector => document.querySelectorAll(selector).length;
  const place = document.createElement('pre');
  place.id = 'probe';
  place.textContent = JSON.stringify({
    failure: document.body.dataset.error ?? window.failure ?? null, ready: document.body.dataset.ready ?? null, title: document.title,
    sideways: document.documentElement.scrollWidth - innerWidth, images: document.images.length, charts: count('figure svg'),
    points: [...document.querySelectorAll('figure')].map(one => one.querySelectorAll('.mark').length), whiskers: count('.whisker'),
    stairs: count('.stairs'), heat: count('td.heat'), headings: [...document.querySelectorAll('h2')].map(one => one.textContent),
    text: document.body.innerText.includes('<img src=x'),
    loose: [...document.querySelectorAll('figure .mark')].filter(one => {
      const mark = one.getBoundingClientRect(), svg = one.ownerSVGElement.getBoundingClientRect();
      return mark.left < svg.left || mark.right > svg.right || mark.top < svg.top || mark.bottom > svg.bottom;
    }).length,
  });
  document.body.append(place);
}, 700);
</script>"""
for width in [1280, 420]:
    seen = look(root / "compare.html", PROBE, width)
    check(f"{width}: no script fails", seen.get("failure", "nothing was seen") is None and seen.get("ready") == "yes", seen)
    check(f"{width}: text from the data stays text", seen.get("title") == "Sememe: dictionaries compared" and seen.get("images") == 0 and
          seen.get("text"), seen)
    check(f"{width}: nothing runs over the side", seen.get("sideways", 1) <= 0, seen)
    # Four were evaluated; of explained variance and dead latents the rows given say it of all five.
    check(f"{width}: every dictionary has its points", seen.get("points") == [4, 5, 5] and seen.get("loose") == 0, seen)
    check(f"{width}: intervals, front and heat are drawn", seen.get("whiskers") == 4 and seen.get("stairs") == 1 and seen.get("heat") == 20, seen)
    check(f"{width}: every part is there", [one.split()[0] for one in seen.get("headings", [])] == ["How", "Figures", "What", "How", "How", "How"], seen)

finish()
