"""Makes the files of this folder with torch.save (torch 2.11): python make.py FOLDER"""
import argparse
import collections
import datetime
import pathlib
import sys

import torch

folder = pathlib.Path(sys.argv[1])

values = {
    "none": None, "true": True, "false": False, "small": 7, "byte": 255, "word": 65535, "negative": -1,
    "long": 2**62 + 1, "lowest": -2**63, "huge": 2**100, "float": -3.25, "text": "grüße\n", "empty": "",
    "list": [1, [2, "x"], []], "tuple": (1, (2,), (), (1, 2, 3, 4)), 5: "number as key",
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]), "size": torch.Size([2, 3]),
    "opaque": argparse.Namespace(a=1, b=[2]), "date": datetime.date(2020, 1, 2), "set": {1}, "frozen": frozenset([1]),
    "bytes": b"abc", "dtype": torch.float32, "class": dict, "default": collections.defaultdict(list, {"k": [1]}),
}
shared = ["the same list"]
values["shared"] = [shared, shared]
for protocol in (2, 3, 4, 5):
    torch.save(values, folder / f"values-{protocol}.zip", pickle_protocol=protocol)
torch.save(values, folder / "values.legacy", _use_new_zipfile_serialization=False)

base = torch.arange(24, dtype=torch.float32)
tensors = {str(d).split(".")[1]: torch.arange(5).to(d) for d in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool, torch.complex64)}
tensors |= {"base": base, "transposed": base.view(4, 6).t(), "part": base.view(4, 6)[1:3, ::2], "scalar": torch.tensor(2.5),
            "none": torch.empty(0, 3), "parameter": torch.nn.Parameter(torch.ones(2)), "one": base[7:8].expand(1)}
for name, new in (("tensors.zip", True), ("tensors.legacy", False)):
    torch.save({"state_dict": tensors, "epoch": 3}, folder / name, _use_new_zipfile_serialization=new)
torch.save(torch.nn.Linear(2, 1), folder / "whole-model.zip")
