"""The page's patterns, too: each is found in its sources and run, in the engine of the browser, on what it repeats."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

PAGE = Path(__file__).parents[2] / "src" / "refdesk" / "app" / "page"
MODULES = ("text.js", "blocks.js", "inlines.js")
SECONDS_MAX = 60
LITERAL = re.compile(r"(?:[(=,:!&|?]|return)\s*/(?![/*])((?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)/([gimsuy]*)")

TRY = r"""
const { patterns, modules } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const SIZES = [512, 1024, 2048, 4096, 8192];
const LOOKS = 5; // a busy machine slows some runs, not the best of each
function time(work) { // of the processor, in ms
  const begin = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / 1000;
}
function grows(work, pump, tail) {
  let before = 0, strikes = 0, half = "";
  for (const size of SIZES) {
    const text = pump.repeat(size / pump.length) + tail;
    let now = time(() => work(text));
    const steep = () => now > 4 && before > 1 && now > 3 * before;
    for (let look = 0; look < LOOKS && steep(); look += 1) {
      now = Math.min(now, time(() => work(text)));
      before = Math.min(before, time(() => work(half)));
    }
    strikes = steep() ? strikes + 1 : 0;
    half = text;
    if (strikes === 2 || now > 5000) return `${size} characters took ${now.toFixed(0)} ms`;
    before = now;
  }
}
const frozen = [];
function attack(name, work, seeds, first = "") {
  const ones = [...new Set([...first, ..." \n\t\r1a[]().,:;-/\u001b", ...seeds])].slice(0, 10 + first.length);
  const pumps = [...ones, ...ones.flatMap((one) => ones.map((other) => one + other)), "[1", "[1,", "1, ", "\u001b["];
  for (const pump of pumps) for (const tail of ["\0", "x\n"]) {
    const found = grows(work, pump, tail);
    if (found) { frozen.push(`${name} on ${JSON.stringify(pump)}: ${found}`); return; }
  }
}
(async () => {
  for (const [name, source, flags] of patterns) {
    const pattern = new RegExp(source, flags.includes("g") ? flags : flags + "g");
    attack(name, (text) => text.replace(pattern, ""), source.replace(/\\./g, ""));
  }
  const [text, blocks, inlines] = await Promise.all(modules.map((address) => import(address)));
  for (const name of ["clean", "withoutUnfinishedCitation"]) attack(name, text[name], "");
  attack("placeOf", (given) => text.placeOf(given, given, 0), "");
  for (const growing of [false, true]) {
    attack("readBlocks", (given) => blocks.readBlocks(given, { growing }), "", "*`|>-");
    attack("readInlines", (given) => inlines.readInlines([{ text: given, at: 0 }], { growing }), "", "*_`$!\\");
  }
  attack("readQuotes", blocks.readQuotes, "");
  attack("readQuoted", (given) => inlines.readQuoted([{ text: given, at: 0 }]), "");
  console.log(JSON.stringify(frozen));
})();
"""


def literals() -> list[tuple[str, str, str]]:
    return [
        (f"{file.name}: /{match[1]}/", match[1], match[2])
        for file in sorted(PAGE.glob("*.js"))
        for match in LITERAL.finditer(file.read_text(encoding="utf-8"))
    ]


def tried(patterns: list[tuple[str, str, str]], folder: Path) -> list[str]:
    """What froze. Node runs the page's own modules of text as they are."""
    for name in MODULES:
        shutil.copy(PAGE / name, folder)
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    given = json.dumps({"patterns": patterns, "modules": [(folder / name).as_uri() for name in MODULES]})
    node = compute_driver_executable()[0]
    ended = subprocess.run(
        [node, "-e", TRY], input=given, capture_output=True, text=True, timeout=SECONDS_MAX, check=True
    )
    frozen: list[str] = json.loads(ended.stdout)
    return frozen


@pytest.mark.timeout(2 * SECONDS_MAX)
def test_no_pattern_of_the_page_backtracks(tmp_path: Path) -> None:
    """Twice the text, about twice the time."""
    found = literals()
    assert len(found) >= 12
    assert tried(found, tmp_path) == []


@pytest.mark.timeout(2 * SECONDS_MAX)
def test_a_pattern_of_the_page_that_backtracks_is_seen(tmp_path: Path) -> None:
    """One that looked for citations before."""
    assert len(tried([("citation", r"\s*\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]", "g")], tmp_path)) == 1
