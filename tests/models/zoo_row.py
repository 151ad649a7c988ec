"""One row of the zoo: an architecture, built small with random weights, and inputs for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

BATCH, VOCABULARY = 2, 96

Inputs = dict[str, Any]
# (seed of the values, size) → keyword arguments of a call; what the size is, the maker says.
InputMaker = Callable[[int, int], Inputs]


@dataclasses.dataclass(frozen=True)
class Call:
    """One of a series of calls of a model.

    Attributes:
        inputs: makes the keyword arguments; the call may change them.
        compiles: no earlier call of the series was like this one, so that a program is compiled.
            Where other values lead eager's Python code elsewhere, more may be compiled.
        unlike: label of an earlier call whose result differs, as its inputs had other values.
    """

    label: str
    inputs: Callable[[], Inputs]
    compiles: bool
    unlike: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """How to build one architecture of `transformers`, and what to call it with.

    Attributes:
        model: name of the model's class in `transformers`.
        config: name of the class of its configuration.
        settings: arguments of the configuration.
        inputs: makes the arguments of a call; two seeds give different values of the same shapes.
        sizes: two sizes for `inputs`, of different shapes.
        group: text, encoder, seq2seq, moe, state_space, vision, audio or multimodal.
        cached: takes `use_cache`, and is run with it on and off.
        settles: keeps something in its modules at the first call that it reads from then on, so
            that the second call, too, is of a new kind.
    """

    name: str
    model: str
    config: str
    settings: dict[str, Any]
    inputs: InputMaker
    sizes: tuple[int, int]
    group: str
    cached: bool = False
    settles: bool = False

    def __str__(self) -> str:
        return self.name

    def build(self) -> torch.nn.Module:
        """The model in evaluation mode, float32, with the same weights each time."""
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**self.settings)
        return getattr(transformers, self.model)(config).eval()

    def calls(self) -> list[Call]:
        small, large = self.sizes
        found = []
        for extra in [{"use_cache": False}, {"use_cache": True}] if self.cached else [{}]:
            suffix = ", use_cache" if extra.get("use_cache") else ""

            def inputs(seed: int, size: int, extra: Inputs = extra) -> Callable[[], Inputs]:
                return lambda: {**self.inputs(seed, size), **extra}

            found += [
                Call(f"first{suffix}", inputs(1, small), True),
                Call(f"again{suffix}", inputs(1, small), self.settles and not found),
                Call(f"settled{suffix}", inputs(1, small), False),
                Call(f"other values{suffix}", inputs(2, small), False, unlike=f"first{suffix}"),
                Call(f"other size{suffix}", inputs(1, large), True),
            ]
        return found


def tokens(seed: int, *shape: int, vocabulary: int = VOCABULARY) -> torch.Tensor:
    """Token numbers that are none of the special tokens 0, 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, vocabulary, shape, generator=generator)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def text(seed: int, length: int) -> Inputs:
    """A batch of sentences, the second one padded to the `length` of the first."""
    mask = torch.ones(BATCH, length, dtype=torch.int64)
    mask[1, length // 2 :] = 0
    return {"input_ids": tokens(seed, BATCH, length), "attention_mask": mask}


def plain_text(seed: int, length: int) -> Inputs:
    return {"input_ids": tokens(seed, BATCH, length)}


def text_pair(seed: int, length: int) -> Inputs:
    """A text to read, and the beginning of one to write."""
    return {**text(seed, length), "decoder_input_ids": tokens(seed + 100, BATCH, 5)}


def batch_of_images(side: int, channels: int = 3) -> InputMaker:
    """For models of one image size: the size that varies is the batch's."""
    return lambda seed, batch: {"pixel_values": noise(seed, batch, channels, side, side)}


def images(seed: int, side: int) -> Inputs:
    return {"pixel_values": noise(seed, BATCH, 3, side, side)}


def batch_of_clips(frames: int, side: int) -> InputMaker:
    return lambda seed, batch: {"pixel_values": noise(seed, batch, frames, 3, side, side)}


def waves(seed: int, samples: int) -> Inputs:
    return {"input_values": noise(seed, BATCH, samples)}


def text_and_image(side: int, channels: int = 3) -> InputMaker:
    return lambda seed, length: {
        **text(seed, length),
        "pixel_values": noise(seed + 100, BATCH, channels, side, side),
    }
