"""A page opened in a real browser, with a script at its end that leaves what it saw in <pre id="probe">."""
import html
import json
import re
import shutil
import subprocess

from program import check

BROWSER = shutil.which("chromium")


def look(page, probe, width):
    """What `probe` left of the page in a window of that width; {} if it left nothing, which is a failed check."""
    probed = page.with_name(f"probed-{width}.html")
    probed.write_text((page.read_text() if page.exists() else "<body></body>").replace("</body>", probe + "</body>"))
    result = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={page.parent}/profile{width}", "--virtual-time-budget=6000",
         f"--window-size={width},900", "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120)
    left = re.search(r'<pre id="probe">(.*?)</pre>', result.stdout, re.S)
    check(f"{width}: the page runs", left, result.stderr[-300:])
    return json.loads(html.unescape(left.group(1))) if left else {}
