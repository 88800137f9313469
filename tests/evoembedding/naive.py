"""EvoEmbedding without any cleverness: transformers' own decoders, merged adapters, no cache.

Written from a description of the model (docs/reference/evoembedding-model.md), independent of `evomem.evoembedding`: every text is one
forward pass of its own, every conversation is read from its beginning.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.evoembedding.tiny import Tiny

PREFIX = "model.base_model.model."
INSTRUCTION = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)


class Naive:
    """Both protocols on whole conversations. The latents of the conversations it has read are kept."""

    def __init__(self, tiny: Tiny) -> None:
        self.read: dict[str, Tensor] = {}
        config = json.loads((tiny.checkpoint / "config.json").read_text())
        self.weights = tiny.weights
        self.latents, self.capacity = config["num_latents"], config["buffer_capacity"]
        self.tokenizer: Any = AutoTokenizer.from_pretrained(tiny.base)
        self.end, self.im_end = self.ids("<|endoftext|>")[0], self.ids("<|im_end|>")[0]
        self.user = self.ids("user")[0]
        plain = _base(tiny)
        scale = config["lora_alpha"] / config["lora_r"]
        self.models = {
            "": plain,
            **{
                name: self._merged(plain, name, scale) for name in ("memory_generator", "retriever")
            },
        }

    def ids(self, text: str) -> list[int]:
        """Return token ids."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def encode(self, messages: list[dict[str, str]]) -> Tensor:
        """Protocol E: everything behind the final queue."""
        texts = [*self.turns(messages[:-1]), messages[-1]["content"].strip()]
        ids = [self.ids(text) for text in texts]
        ids = [id if id and id[-1] == self.end else [*id, self.end] for id in ids]
        queue = self.evolve(ids[:-1])[-self.capacity :]
        return F.normalize(torch.stack([self.embed(id, queue) for id in ids]), dim=-1)

    def retrieve(self, messages: list[dict[str, str]]) -> Tensor:
        """Protocol R: each turn behind the queue before it."""
        *segments, _ = self.segments(messages)
        texts = [[*self.ids(turn), self.end] for turn in self.turns(messages[:-1])]
        asked = self.ids(INSTRUCTION) + self.ids(messages[-1]["content"].strip()) + [self.end]
        latents = self.evolve(segments)
        rows = []
        for i, text in enumerate([*texts, asked]):
            end = i * self.latents if len(segments) == len(texts) else len(latents)
            rows.append(self.embed(text, latents[max(0, end - self.capacity) : end]))
        return F.normalize(torch.stack(rows), dim=-1)

    def generate(self, messages: list[dict[str, str]], count: int) -> list[int]:
        """Greedy ids with the queue behind the prompt's third token, adapters off."""
        *segments, last = self.segments(messages)
        embeds = self.table(last)
        if segments:
            queue = self.linear("mem_to_latent.0", self.evolve(segments)[-self.capacity :])
            embeds = torch.cat([embeds[:3], queue, embeds[3:]])
        result: list[int] = []
        for _ in range(count):
            with torch.no_grad():
                logits = self.models[""](inputs_embeds=embeds[None], use_cache=False).logits
            result.append(int(logits[0, -1].argmax()))
            embeds = torch.cat([embeds, self.table(result[-1:])])
        return result

    def evolve(self, turns: list[list[int]]) -> Tensor:
        """All latents of all turns, read in greedy chunks of 16 turns or 2,048 tokens."""
        if (key := repr(turns)) not in self.read:
            self.read[key] = self._evolve(turns)
        return self.read[key]

    def _evolve(self, turns: list[list[int]]) -> Tensor:
        result = torch.zeros(0, self.weights["memory_queries"].shape[-1])
        turns = list(turns)
        while turns:
            chunk = [turns.pop(0)]
            while turns and len(chunk) < 16 and sum(map(len, chunk)) + len(turns[0]) <= 2048:
                chunk.append(turns.pop(0))
            parts = (
                [self.linear("mem_to_latent.0", result[-self.capacity :])] if len(result) else []
            )
            places: list[int] = []
            for ids in chunk:
                parts += [self.table(ids), self.weights["memory_queries"][0]]
                end = sum(map(len, parts))
                places += range(end - self.latents, end)
            hidden = self.hidden("memory_generator", torch.cat(parts))[places]
            result = torch.cat([result, torch.relu(self.linear("latent_to_mem.0", hidden))])
        return result

    def embed(self, ids: list[int], queue: Tensor) -> Tensor:
        """The embedding of one text behind a queue, not normalised."""
        rows = torch.cat([self.linear("mem_to_latent.0", queue), self.table(ids)])
        last = torch.relu(self.linear("latent_to_mem.0", self.hidden("retriever", rows)[-1]))
        return self.linear("mem_to_emb.2", torch.relu(self.linear("mem_to_emb.0", last)))

    def turns(self, history: list[dict[str, str]]) -> list[str]:
        """Pairs by position."""
        result = []
        for i in range(0, len(history), 2):
            text = [message["content"] for message in history[i : i + 2]]
            if len(text) == 1 or (text[0] and not text[1]):
                result.append(f"User: {text[0]}")
            elif not text[0]:
                result.append(f"Assistant: {text[1]}")
            else:
                result.append(f"User: {text[0]}\nAssistant: {text[1]}")
        return result

    def segments(self, messages: list[dict[str, str]]) -> list[list[int]]:
        """The templated conversation, cut behind messages that a user message follows."""
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        ids = self.ids(text)
        points = [0]
        for i, token in enumerate(ids):
            follows = i == len(ids) - 2 or (i + 3 < len(ids) and ids[i + 3] == self.user)
            if token == self.im_end and follows:
                points.append(i + 2)
        if points[-1] != len(ids):
            points.append(len(ids))
        return [ids[a:b] for a, b in zip(points, points[1:], strict=False)]

    def linear(self, name: str, x: Tensor) -> Tensor:
        """One of the small heads."""
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def table(self, ids: list[int]) -> Tensor:
        """Input embeddings."""
        return self.weights[f"{PREFIX}model.embed_tokens.weight"][ids]

    def hidden(self, adapter: str, embeds: Tensor) -> Tensor:
        """Hidden states after the final norm."""
        with torch.no_grad():
            out = self.models[adapter].model(inputs_embeds=embeds[None], use_cache=False)
        states: Tensor = out.last_hidden_state[0]
        return states

    def _merged(self, plain: Any, adapter: str, scale: float) -> Any:
        model = copy.deepcopy(plain)
        for name, module in model.named_modules():
            down = self.weights.get(f"{PREFIX}{name}.lora_A.{adapter}.weight")
            if down is not None:
                up = self.weights[f"{PREFIX}{name}.lora_B.{adapter}.weight"]
                module.weight.data += scale * up @ down
        return model


def _base(tiny: Tiny) -> Any:
    values = json.loads((tiny.base / "config.json").read_text())
    config = AutoConfig.for_model(**values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    names = {
        key.removeprefix(PREFIX).replace(".base_layer", ""): value.clone()
        for key, value in tiny.weights.items()
        if key.startswith(PREFIX) and ".lora_" not in key
    }
    missing, extra = model.load_state_dict(names, strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not extra
    model.tie_weights()
    return model
