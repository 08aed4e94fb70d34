"""tokenize_bench beside Hugging Face's tokenizers on the same texts and threads; the ids must be the same.

    python3 bench/tokenize_bench.py build/bench/bin/tokenize_bench tokenizer.json TEXTS THREADS [MEGABYTES]

TEXTS: lines, or .jsonl (also .xz, .gz) with the text under "text", repeated or cut to MEGABYTES if given.
"""
import array
import gzip
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
import zlib

BATCH = 256


def read_texts(name):
    opened = {".xz": lzma.open, ".gz": gzip.open}.get(os.path.splitext(name)[1], open)
    with opened(name, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)["text"] if ".jsonl" in name else line.rstrip("\n")


def sized(texts, size):
    taken, total = [], 0
    while total < size:
        for text in texts:
            taken.append(text)
            total += len(text.encode())
            if total >= size:
                break
    return taken


def reference(tokenizer, texts, way):
    encode = {"ids": tokenizer.encode_batch_fast, "ids and offsets": tokenizer.encode_batch}[way]
    seconds, tokens, checksum = 0.0, 0, 0
    for begin in range(0, len(texts), BATCH):
        start = time.perf_counter()
        encodings = encode(texts[begin : begin + BATCH])
        seconds += time.perf_counter() - start
        for encoding in encodings:
            tokens += len(encoding.ids)
            checksum = zlib.crc32(array.array("i", encoding.ids).tobytes(), checksum)
    return seconds, tokens, checksum


def main():
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    program, tokenizer_json, name, threads = sys.argv[1:5]
    os.environ.update(RAYON_NUM_THREADS=threads, TOKENIZERS_PARALLELISM="true")
    import tokenizers

    texts = list(read_texts(name))
    if len(sys.argv) == 6:
        texts = sized(texts, float(sys.argv[5]) * 1e6)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}) + "\n")
        file.flush()
        lines = subprocess.run([program, tokenizer_json, file.name, threads], check=True, capture_output=True, text=True).stdout
    print(f"{len(texts)} texts, {megabytes:.1f} MB, {threads} threads; tokenizers {tokenizers.__version__}")
    for line in lines.splitlines():
        own = json.loads(line)
        seconds, tokens, checksum = reference(tokenizers.Tokenizer.from_file(tokenizer_json), texts, own["way"])
        same = (tokens, checksum) == (own["tokens"], own["crc32"])
        print(f"{own['way']:<16} {own['seconds']:7.2f} s {megabytes / own['seconds']:7.1f} MB/s   tokenizers {seconds:7.2f} s"
              f" {megabytes / seconds:7.1f} MB/s   ratio {seconds / own['seconds']:5.1f}   ids {'equal' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
