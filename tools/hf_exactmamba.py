"""Loads exactmamba models (model_type "exactmamba") in transformers.

Models whose convolution has SiLU are written as plain "mamba" / "mamba2" and need none of this. The others (ReLU, identity, or
half-way between SiLU and one of them) have their own model_type, so that transformers refuses them instead of computing another
function. Importing this file registers the type:

    import hf_exactmamba
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("path/to/folder")  # a MambaForCausalLM or Mamba2ForCausalLM

The convolution's activation is alpha * phi(a) + (1 - alpha) * silu(a); the output gate stays SiLU. transformers 5 is needed:
version 4 used one setting for both. Kernels from a hub know only SiLU and refuse the activation; the PyTorch path computes it.
"""

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PretrainedConfig,
)
from transformers.activations import ACT2FN

FORMAT_VERSION = 1
KINDS = {"relu": torch.relu, "identity": lambda a: a, "silu": torch.nn.functional.silu}
FAMILIES = {"mamba1": (MambaConfig, MambaForCausalLM), "mamba2": (Mamba2Config, Mamba2ForCausalLM)}

if int(transformers.__version__.split(".")[0]) < 5:
    raise ImportError(f"hf_exactmamba needs transformers 5 or newer, found {transformers.__version__}")


class ConvActivation(torch.nn.Module):
    """phi_alpha, elementwise."""

    def __init__(self, kind: str, alpha: float):
        super().__init__()
        self.kind, self.alpha = kind, alpha

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        phi = KINDS[self.kind](a)
        if self.alpha == 1.0:
            return phi
        return self.alpha * phi + (1.0 - self.alpha) * torch.nn.functional.silu(a)


class ExactMambaConfig(PretrainedConfig):
    """config.json as exactmamba writes it; the keys are those of MambaConfig or Mamba2Config."""

    model_type = "exactmamba"

    def to_transformers(self) -> PretrainedConfig:
        """The MambaConfig or Mamba2Config of this model, its activation registered under a name of its own."""
        fields = self.to_dict()
        version = fields.get("exactmamba_format_version", FORMAT_VERSION)
        if version > FORMAT_VERSION:
            raise ValueError(f"exactmamba_format_version is {version}; this file reads up to {FORMAT_VERSION}")
        kind, alpha = fields["conv_activation"], float(fields.get("conv_activation_alpha", 1.0))
        if kind not in KINDS:
            raise ValueError(f"conv_activation is {kind!r}, expected one of {sorted(KINDS)}")
        name = f"exactmamba:{kind}:{alpha}"
        ACT2FN[name] = (ConvActivation, {"kind": kind, "alpha": alpha})
        config_class, model_class = FAMILIES[fields["architecture"]]
        for key in ("model_type", "architecture", "transformers_version"):
            fields.pop(key, None)
        fields.update(hidden_act=name, architectures=[model_class.__name__])
        return config_class(**fields)


class ExactMambaForCausalLM:
    """What AutoModelForCausalLM finds for an ExactMambaConfig; it makes the model class of transformers."""

    config_class = ExactMambaConfig

    @classmethod
    def from_pretrained(cls, folder, *args, config=None, **kwargs):
        config = config or ExactMambaConfig.from_pretrained(folder)
        model_class = FAMILIES[config.architecture][1]
        model = model_class.from_pretrained(folder, *args, config=config.to_transformers(), **kwargs)
        for layer in model.backbone.layers:
            _never_fuse(layer.mixer)
        return model


def _never_fuse(mixer: torch.nn.Module) -> None:
    """The fused training kernels of Mamba-1 have SiLU built in; a mixer in evaluation mode (it has no dropout) avoids them."""
    mixer.training = False
    mixer.train = lambda mode=True: mixer


AutoConfig.register(ExactMambaConfig.model_type, ExactMambaConfig)
AutoModelForCausalLM.register(ExactMambaConfig, ExactMambaForCausalLM)
