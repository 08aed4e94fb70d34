"""comet_bench beside unbabel-comet on the same segments and threads; the scores must agree.

    python3 bench/comet_bench.py build/bench/bin/comet_bench MODEL SEGMENTS.tsv THREADS

MODEL: a COMET model folder, or a SentencePiece model, around which one of random weights with an encoder of the size of
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


def compare(program, folder, segments, threads):
    import torch
    from comet import load_from_checkpoint

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for segment in segments:
            file.write(json.dumps(segment) + "\n")
        file.flush()
        own = json.loads(subprocess.run([program, folder, file.name, threads], check=True, capture_output=True, text=True).stdout)
    os.chdir(folder)
    torch.set_num_threads(int(threads))
    model = load_from_checkpoint("checkpoints/model.ckpt", local_files_only=True).eval()
    start = time.perf_counter()
    scores = model.predict(segments, batch_size=16, gpus=0, num_workers=0, progress_bar=False)["scores"]
    seconds = time.perf_counter() - start
    difference = max(abs(a - b) for a, b in zip(own["scores"], scores))
    print(f"{len(segments)} segments, {threads} threads: {own['seconds']:.2f} s   unbabel-comet {seconds:.2f} s"
          f"   ratio {seconds / own['seconds']:.2f}   largest difference {difference:.1e}")


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    program, model, name, threads = sys.argv[1:]
    program, model = os.path.abspath(program), os.path.abspath(model)
    with open(name, encoding="utf-8", newline="\n") as file:
        segments = [dict(zip(("src", "mt", "ref"), line.rstrip("\n").split("\t"))) for line in file]
    if os.path.isdir(model):
        return compare(program, model, segments, threads)
    with tempfile.TemporaryDirectory() as folder:
        make_model(pathlib.Path(folder), model)
        compare(program, folder, segments, threads)
        os.chdir("/")


if __name__ == "__main__":
    main()
