"""Writes data/tokenizers/unicode_ranges.inc from the classes that Hugging Face's tokenizers library gives to characters.
usage: python3 tools/make_unicode_ranges.py < tests/golden/tokenizers/unicode_classes.json > data/tokenizers/unicode_ranges.inc"""
import json
import sys

classes = json.load(sys.stdin)
ranges = sorted((first, last, name) for name in "LNS" for first, last in classes[name])
print("// Made by tools/make_unicode_ranges.py: {first, last, class}, in order; all other characters are kOther.")
names = {"L": "kLetter", "N": "kNumber", "S": "kSpace"}
for first, last, name in ranges:
    print(f"{{0x{first:X}, 0x{last:X}, CharacterClass::{names[name]}}},")
