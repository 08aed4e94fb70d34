"""Writes eval/text/character_classes.inc and eval/text/lower_case.inc: what BLEU, chrF and TER know of characters. Punctuation,
symbols, numbers and lower case come from the golden file; which characters Python's str.lower sees around a capital sigma is asked
of Python itself (3.11, Unicode 14, as the golden file says).
usage: python3 tools/make_score_characters.py tests/golden/metrics/unicode.json eval/text"""
import json
import sys
from pathlib import Path

SIGMA, SMALL_SIGMA = "\u03a3", "\u03c3"
golden, folder = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
cased = {c for c in characters if ("A" + SIGMA + c).lower()[1] == SMALL_SIGMA}
ignorable = {c for c in characters if c not in cased and ("A" + SIGMA + c + "A").lower()[1] == SMALL_SIGMA}
members = [(name, {chr(c) for first, last in golden[key] for c in range(first, last + 1)}) for name, key in (("kPunctuation", "P"), ("kSymbol", "S"), ("kNumber", "N"))]
members += [("kCased", cased), ("kCaseIgnorable", ignorable)]

ranges = []
for c in characters:
    names = " | ".join(name for name, of in members if c in of)
    if ranges and ranges[-1][1] == ord(c) - 1 and ranges[-1][2] == names:
        ranges[-1][1] = ord(c)
    elif names:
        ranges.append([ord(c), ord(c), names])
lines = ["// Made by tools/make_score_characters.py: {first, last, classes}, in order; all other characters have none."]
lines += [f"{{0x{first:X}, 0x{last:X}, {names}}}," for first, last, names in ranges]
(folder / "character_classes.inc").write_text("\n".join(lines) + "\n", encoding="utf-8")

runs = []  # every, or every second, character of a range
for upper, lower in golden["lower"]:
    if len(lower) > 1:
        continue
    shift, run = ord(lower) - upper, runs[-1] if runs else None
    step = upper - run[1] if run else 0
    if run and run[3] == shift and (step == run[2] or (run[0] == run[1] and step <= 2)):
        run[1], run[2] = upper, step
    else:
        runs.append([upper, upper, 1, shift])
lines = ["// Made by tools/make_score_characters.py: {first, last, step, shift}, in order."]
lines += [f"{{0x{first:X}, 0x{last:X}, {step}, {shift}}}," for first, last, step, shift in runs]
(folder / "lower_case.inc").write_text("\n".join(lines) + "\n", encoding="utf-8")
