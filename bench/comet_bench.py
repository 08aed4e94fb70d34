"""comet_bench beside unbabel-comet on the same segments and threads; the scores must agree.

    python3 bench/comet_bench.py build/bench/bin/comet_bench MODEL SEGMENTS.tsv THREADS [BLOCK]

Both take turns, BLOCK segments at a time (default: all), so that what else the machine does slows both. MODEL: a COMET model folder, or a SentencePiece model, around which one of random weights with an encoder of the size of
XLM-RoBERTa base is made. SEGMENTS: source, translation and reference a line, between tabs.
"""
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
HPARAMS = {"class_identifier": "regression_metric", "encoder_model": "XLM-RoBERTa", "pretrained_model": "encoder", "layer": "mix",
           "layer_transformation": "softmax", "layer_norm": False, "pool": "avg", "hidden_sizes": [2304, 768], "activations": "Tanh",
           "final_activation": None, "dropout": 0.1, "keep_embeddings_frozen": True}


def make_model(folder, pieces):
    import pytorch_lightning
    import sentencepiece
    import torch
    import yaml
    from comet.models import RegressionMetric

    encoder = folder / "encoder"
    encoder.mkdir()
    shutil.copy(pieces, encoder / "sentencepiece.bpe.model")
    vocabulary = sentencepiece.SentencePieceProcessor(model_file=pieces).vocab_size() + 2
    config = BASE | {"model_type": "xlm-roberta", "hidden_act": "gelu", "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
                     "type_vocab_size": 1, "max_position_embeddings": 514, "layer_norm_eps": 1e-5, "vocab_size": vocabulary}
    (encoder / "config.json").write_text(json.dumps(config))
    (folder / "hparams.yaml").write_text(yaml.safe_dump(HPARAMS))
    os.chdir(folder)
    torch.manual_seed(1)
    model = RegressionMetric(**{k: v for k, v in HPARAMS.items() if k != "class_identifier"}, load_pretrained_weights=False, local_files_only=True)
    trainer = pytorch_lightning.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                                        enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(model)
    (folder / "checkpoints").mkdir()
    trainer.save_checkpoint("checkpoints/model.ckpt", weights_only=True)


def own_scores(program, folder, segments, threads):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for segment in segments:
            file.write(json.dumps(segment) + "\n")
        file.flush()
        own = json.loads(subprocess.run([program, folder, file.name, threads], check=True, capture_output=True, text=True).stdout)
    return own["scores"], (own["seconds"], own["cpu_seconds"])


def unbabel_scores(model, segments):
    start, cpu_start = time.perf_counter(), time.process_time()
    scores = model.predict(segments, batch_size=16, gpus=0, num_workers=0, progress_bar=False)["scores"]
    return scores, (time.perf_counter() - start, time.process_time() - cpu_start)


def compare(program, folder, segments, threads, block):
    import torch
    from comet import load_from_checkpoint

    os.chdir(folder)
    torch.set_num_threads(int(threads))
    model = load_from_checkpoint("checkpoints/model.ckpt", local_files_only=True).eval()
    done, difference, times = 0, 0, ((0, 0), (0, 0))
    for begin in range(0, len(segments), block):
        part = segments[begin:begin + block]
        own, own_times = own_scores(program, folder, part, threads)
        unbabel, unbabel_times = unbabel_scores(model, part)
        times = [[a + b for a, b in zip(*sums)] for sums in zip(times, (own_times, unbabel_times))]
        difference = max([difference] + [abs(a - b) for a, b in zip(own, unbabel)])
        done += len(part)
        (wall, cpu), (unbabel_wall, unbabel_cpu) = times
        print(f"{done} segments, {threads} threads: {wall:.2f} s, {cpu:.2f} s of CPU   "
              f"unbabel-comet {unbabel_wall:.2f} s, {unbabel_cpu:.2f} s of CPU   "
              f"ratio {unbabel_wall / wall:.2f}, {unbabel_cpu / cpu:.2f}   largest difference {difference:.1e}", flush=True)


def main():
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    program, model, name, threads = sys.argv[1:5]
    program, model = os.path.abspath(program), os.path.abspath(model)
    with open(name, encoding="utf-8", newline="\n") as file:
        segments = [dict(zip(("src", "mt", "ref"), line.rstrip("\n").split("\t"))) for line in file]
    block = int(sys.argv[5]) if len(sys.argv) == 6 else len(segments)
    if os.path.isdir(model):
        return compare(program, model, segments, threads, block)
    with tempfile.TemporaryDirectory() as folder:
        make_model(pathlib.Path(folder), model)
        compare(program, folder, segments, threads, block)
        os.chdir("/")


if __name__ == "__main__":
    main()
