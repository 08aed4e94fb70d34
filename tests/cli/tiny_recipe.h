// A recipe that runs in less than a second.
#pragma once

namespace exactmamba::cli {

inline constexpr const char* kTinyRecipe = R"(
[run]
output = "out"
[data]
min_length = 2
max_length = 4
context = 24
held_out = 20
[model]
d_model = 16
n_layer = 2
d_state = 8
headdim = 8
[train]
steps = 6
batch_size = 2
checkpoint_every = 2
eval_every = 3
log_every = 1
[decompose]
max_rows = 3
)";

}  // namespace exactmamba::cli
