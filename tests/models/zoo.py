"""The zoo: more than 200 architectures of `transformers`, built small."""

from __future__ import annotations

from zoo_media import AUDIO, MULTIMODAL, VISION
from zoo_text import DECODERS, ENCODERS, EXPERTS, SEQ2SEQ, STATE_SPACE

ROWS = [*DECODERS, *ENCODERS, *SEQ2SEQ, *EXPERTS, *STATE_SPACE, *VISION, *AUDIO, *MULTIMODAL]
