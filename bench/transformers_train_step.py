"""The reference of train_step_bench: the same training step (130M parameters, 1x512 tokens, fp32, AdamW) in transformers on the CPU.

    pip install torch transformers mambapy;  python bench/transformers_train_step.py [threads] [repetitions]
"""
import sys
import time

import torch
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

threads, repetitions = (int(x) for x in (sys.argv[1:] + ["2", "2"][len(sys.argv) - 1:]))
torch.set_num_threads(threads)
shared = dict(vocab_size=50280, hidden_size=768, num_hidden_layers=24, use_cache=False)
models = {
    "mamba1 (mambapy)": lambda: MambaForCausalLM(MambaConfig(state_size=16, use_mambapy=True, **shared)),
    "mamba2": lambda: Mamba2ForCausalLM(
        Mamba2Config(state_size=128, num_heads=24, head_dim=64, n_groups=1, chunk_size=256, tie_word_embeddings=True, **shared)),
}
for name, make in models.items():
    torch.manual_seed(0)
    model = make().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, 50280, (1, 512))
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    best = min(times[1:])
    print(f"transformers {name}: {512 / best:.1f} tok/s a step ({best:.2f} s)", flush=True)
    del model, optimizer
