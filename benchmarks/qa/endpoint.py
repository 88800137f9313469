"""A language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import Any

from benchmarks.qa.contexts import count_tokens
from evomem._extras import require
from evomem.errors import EvomemError

RETRIES = 6
TIMEOUT = 120.0


class EndpointError(EvomemError):
    """An endpoint gave no usable reply, after all retries; the message says what came instead."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and its price: as the endpoint says, or counted where it does not."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Endpoint:
    """Asks one question at a time; may be used by several threads."""

    def __init__(
        self,
        url: str | None,
        model: str,
        *,
        key: str = "none",
        max_tokens: int = 256,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        http_client: Any = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: Up to and with `/v1`; None is OpenAI's own, or `$OPENAI_BASE_URL`.
            model: The model's name there.
            key: Sent as the API key; local servers take anything.
            max_tokens: How long a reply may get.
            timeout: Seconds until a request is given up and sent again.
            retries: Further tries after a timeout, a rate limit or a server's failure, with growing
                pauses; what the endpoint says in `Retry-After` is kept to.
            http_client: An `httpx.Client` to use instead of an own one, as for a unix socket.
        """
        library = require("openai", extra="benchmarks")
        self.model, self.max_tokens = model, max_tokens
        self._error: type[Exception] = library.OpenAIError
        self._client = library.OpenAI(
            base_url=url, api_key=key, timeout=timeout, max_retries=retries, http_client=http_client
        )

    def ask(self, prompt: str) -> Reply:
        """Return the reply to `prompt`, at temperature 0.

        Raises:
            EndpointError: There is none, or it is not one.
        """
        try:
            came = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=self.max_tokens,
            )
        except (self._error, ValueError) as error:  # ValueError: a body that is no JSON
            raise EndpointError(f"{self.model} gave no reply: {error!r:.300}") from error
        try:
            text = came.choices[0].message.content
            assert isinstance(text, str)
        except (AttributeError, IndexError, TypeError, AssertionError) as error:
            raise EndpointError(f"{self.model} sent no chat completion: {came!r:.300}") from error
        usage = getattr(came, "usage", None)
        return Reply(
            text.strip(),
            getattr(usage, "prompt_tokens", None) or count_tokens(prompt),
            getattr(usage, "completion_tokens", None) or count_tokens(text),
        )


def add_endpoint_arguments(parser: ArgumentParser, role: str, max_tokens: int) -> None:
    """Add the options of the "reader" or the "judge"."""
    parser.add_argument(f"--{role}-model", metavar="NAME", help=f"without it, there is no {role}")
    parser.add_argument(f"--{role}-url", metavar="URL", help="up to /v1; OpenAI's if not given")
    parser.add_argument(
        f"--{role}-key", metavar="VARIABLE", default="OPENAI_API_KEY", help="that holds the key"
    )
    parser.add_argument(f"--{role}-max-tokens", type=int, default=max_tokens, metavar="N")


def endpoint_of(options: Namespace, role: str) -> Endpoint | None:
    """Return the endpoint that the options name, if they do."""
    given = {name: getattr(options, f"{role}_{name}") for name in ("url", "model", "key")}
    if not given["model"]:
        return None
    return Endpoint(
        given["url"],
        given["model"],
        key=os.environ.get(given["key"]) or "none",
        max_tokens=getattr(options, f"{role}_max_tokens"),
        timeout=options.timeout,
        retries=options.retries,
    )
