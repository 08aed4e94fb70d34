"""The reference of gpu_bench: the same work in mamba_ssm 2.3 and causal-conv1d under PyTorch's autocast, with cross entropy of all logits
and the fused AdamW. Writes a report that `gpu_bench --baseline` reads.

    python3 bench/reference.py ops|train|generate|all REPORT.json
"""
import datetime
import json
import statistics
import sys
import time

import torch

try:
    import mamba_ssm
    from causal_conv1d import causal_conv1d_fn
    from mamba_ssm.models.config_mamba import MambaConfig
    from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
except ImportError as error:
    sys.exit(f"the reference is not installed ({error}); it needs torch, mamba_ssm and causal-conv1d, on a GPU")

ROWS, LENGTH, MODEL, INNER, VOCABULARY = 16, 2048, 768, 1536, 50280
SIZES = {"mamba1-130m": (1, 768, 24), "mamba1-370m": (1, 1024, 48), "mamba2-130m": (2, 768, 24), "mamba2-370m": (2, 1024, 48)}
results = []


def host_times(work, repetitions, warm_up):
    """Milliseconds of whatever ends with an idle GPU, by the clock."""
    times = []
    for i in range(warm_up + repetitions):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if i >= warm_up:
            times.append(1e3 * (time.perf_counter() - begin))
    return times


def kernel_times(work, repetitions=30, warm_up=3):
    """Milliseconds of a launch, several between two events as in gpu_bench; the queue is kept full."""
    for _ in range(warm_up):
        work()
    launches = min(max(int(2 / event_times(work, 3, 1)[-1]), 1), 20)
    return event_times(work, repetitions, launches)


def event_times(work, intervals, launches):
    events = [torch.cuda.Event(enable_timing=True) for _ in range(intervals + 1)]
    events[0].record()
    for event in events[1:]:
        for _ in range(launches):
            work()
        event.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / launches for begin, end in zip(events, events[1:])]


def add(name, times, **more):
    median = statistics.median(times)
    result = {"name": name, "milliseconds": median, "least": min(times), "most": max(times), "repetitions": len(times)}
    if "tokens" in more:
        result["tokens_per_second"] = more["tokens"] / median * 1e3
    if more.get("memory"):
        result["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    results.append(result)
    print(json.dumps(result), flush=True)


def add_both_ways(name, forward, inputs):
    """Forward with autograd's bookkeeping, and backward alone."""
    add(f"{name} forward", kernel_times(forward))
    out = forward()
    grad = torch.randn_like(out)
    add(f"{name} backward", kernel_times(lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True)))


def operators():
    def random(*shape, dtype=torch.bfloat16):
        return torch.randn(*shape, device="cuda", dtype=dtype, requires_grad=True)

    x, weight, bias = random(ROWS, LENGTH, INNER), random(INNER, 4), random(INNER)
    add_both_ways("causal_conv1d", lambda: causal_conv1d_fn(x.transpose(1, 2), weight, bias, activation="silu"), [x, weight, bias])

    u, delta, z = (random(ROWS, INNER, LENGTH) for _ in range(3))
    B, C = (random(ROWS, 1, 16, LENGTH) for _ in range(2))
    A = (-16 * torch.rand(INNER, 16, device="cuda")).requires_grad_()
    D, delta_bias = (random(INNER, dtype=torch.float32) for _ in range(2))
    add_both_ways("selective_scan", lambda: selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, True), [u, delta, A, B, C, D, z, delta_bias])

    x, dt = random(ROWS, LENGTH, 24, 64), random(ROWS, LENGTH, 24)
    B, C = (random(ROWS, LENGTH, 1, 128) for _ in range(2))
    A = (-16 * torch.rand(24, device="cuda")).requires_grad_()
    D, dt_bias = (random(24, dtype=torch.float32) for _ in range(2))
    add_both_ways("ssd", lambda: mamba_chunk_scan_combined(x, dt, A, B, C, 256, D=D, dt_bias=dt_bias, dt_softplus=True), [x, dt, A, B, C, D, dt_bias])


def model_of(name):
    layer, d_model, n_layer = SIZES[name]
    config = MambaConfig(d_model=d_model, n_layer=n_layer, vocab_size=VOCABULARY, ssm_cfg={"layer": f"Mamba{layer}"},
                         rms_norm=True, residual_in_fp32=True, fused_add_norm=True, pad_vocab_size_multiple=16)
    return MambaLMHeadModel(config, device="cuda")


def training():
    for name in SIZES:
        model = model_of(name)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH + 1), device="cuda")

        def step():
            with torch.autocast("cuda", dtype=torch.bfloat16):
                logits = model(ids[:, :-1]).logits
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        torch.cuda.reset_peak_memory_stats()
        add(f"train {name} bfloat16 silu", host_times(step, 10, 3), tokens=ROWS * LENGTH, memory=True)
        del model, optimizer
        torch.cuda.empty_cache()


def generation():
    for name in ("mamba1-370m", "mamba2-370m"):
        model = model_of(name).to(torch.bfloat16).eval()
        for batch in (1, 64):
            ids = torch.randint(0, VOCABULARY, (batch, 100), device="cuda")
            times = host_times(lambda: model.generate(ids, max_length=356, cg=True, top_k=1), 5, 2)
            add(f"generate {name} batch {batch}", times, tokens=256 * batch)
        del model
        torch.cuda.empty_cache()


if len(sys.argv) != 3 or sys.argv[1] not in ("ops", "train", "generate", "all"):
    sys.exit(__doc__)
for subject, measure in (("ops", operators), ("train", training), ("generate", generation)):
    if sys.argv[1] in (subject, "all"):
        measure()
with open(sys.argv[2], "w") as file:
    json.dump({"device": torch.cuda.get_device_name(), "date": datetime.date.today().isoformat(), "mamba_ssm": mamba_ssm.__version__,
               "torch": torch.__version__, "results": results}, file, indent=2)
