"""How what is true of an offer reads to people: choices of filters, what sets one apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.translation import gettext_lazy as _

from marketplace.http.portal.words import Text

NAMES: Final[Mapping[str, Mapping[str, Text]]] = {
    "ownership": {"owned": _("Our data centres"), "partner": _("Partners")},
    "interruptible": {"true": _("Interruptible"), "false": _("Never interruptible")},
    "ssh": {"true": _("SSH and ports"), "false": _("None")},
    "storage": {
        "none": _("No volumes"),
        "node": _("On the machine"),
        "cluster": _("In the whole cluster"),
    },
    # As their makers write them, in every language.
    "interconnect": {
        "none": _("None stated"),
        "blink": "BLink",
        "ethernet": "Ethernet",
        "hccs": "HCCS",
        "ici": "ICI",
        "infinity-fabric": "Infinity Fabric",
        "metaxlink": "MetaXLink",
        "mlu-link": "MLU-Link",
        "mtlink": "MTLink",
        "neuronlink": "NeuronLink",
        "nvlink": "NVLink",
        "nvlink-bridge": "NVLink Bridge",
        "xe-link": "Xe Link",
        "xpulink": "XPULink",
    },
    "toolkit": {
        "cann": "CANN",
        "corex": "CoreX",
        "cuda": "CUDA",
        "dtk": "DTK",
        "libtpu": "libtpu",
        "maca": "MACA",
        "musa": "MUSA",
        "neuron": "Neuron",
        "neuware": "Neuware",
        "oneapi": "oneAPI",
        "rocm": "ROCm",
        "supa": "SUPA",
        "synapse": "Synapse",
        "topsrider": "TopsRider",
        "xpu": "XPU",
    },
    "tier": {"standard": _("Standard"), "new": _("New, on probation")},
    "isolation": {"container": _("Container")},
}
# By name of catalog/marks.py.
MARKS: Final[Mapping[str, Text]] = {
    "cheapest": _("lowest price"),
    "most_reliable": _("most reliable"),
    "fastest_machine": _("best benchmark"),
    "largest_block": _("most free in one machine"),
    "fastest_disk": _("fastest disk"),
    "fastest_network": _("fastest network"),
}
EGRESS: Final[Mapping[str, Text]] = {
    "internet": _("the internet"),
    "web": _("HTTP and HTTPS only"),
    "none": _("nothing"),
}


def spelled(name: str, value: str) -> str:
    """A value of ``name`` in words; as it is where there are none."""
    return str(NAMES.get(name, {}).get(value, value))


def need(name: str, value: object) -> str:
    """What a template needs of a card: ``CUDA 12.4``, ``24 GiB per card``, ``NVIDIA or AMD``."""
    if name == "min_memory_gib":
        return str(_("%(size)s GiB per card") % {"size": value})
    if name == "min_cuda":
        return f"CUDA {value}"
    listed = map(str, value if isinstance(value, list) else [value])
    known = name in NAMES
    return str(_(" or ")).join(spelled(name, item) if known else item.upper() for item in listed)
