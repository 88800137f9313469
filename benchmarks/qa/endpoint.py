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
    """An endpoint gave no usable reply after all retries; the message contains its response or error."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply and its tokens, as the endpoint reports them, or counted if it does not."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Endpoint:
    """A chat model that answers one prompt per request. Thread-safe."""

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
        """Create the client; nothing is sent yet.

        Args:
            url: The base URL, including `/v1`; None for OpenAI's, or `$OPENAI_BASE_URL`.
            model: The name of the model.
            key: The API key; local servers accept any.
            max_tokens: The maximum length of a reply.
            timeout: Seconds until a request is abandoned and retried.
            retries: The number of retries after a timeout, a rate limit or a server error, with growing
                pauses; a `Retry-After` of the endpoint is respected.
            http_client: An `httpx.Client` to use instead of a new one, for example for a Unix socket.
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
            EndpointError: The request failed, or the response is not a chat completion.
        """
        try:
            response = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=self.max_tokens,
            )
        except (self._error, ValueError) as error:  # ValueError: the body is not JSON
            raise EndpointError(f"{self.model} gave no reply: {error!r:.300}") from error
        try:
            text = response.choices[0].message.content
            assert isinstance(text, str)
        except (AttributeError, IndexError, TypeError, AssertionError) as error:
            raise EndpointError(
                f"{self.model} sent no chat completion: {response!r:.300}"
            ) from error
        usage = getattr(response, "usage", None)
        return Reply(
            text.strip(),
            getattr(usage, "prompt_tokens", None) or count_tokens(prompt),
            getattr(usage, "completion_tokens", None) or count_tokens(text),
        )


def add_endpoint_arguments(parser: ArgumentParser, role: str, max_tokens: int) -> None:
    """Add the options of the role "reader" or "judge"."""
    parser.add_argument(
        f"--{role}-model", metavar="NAME", help=f"the {role}; if not given, it is skipped"
    )
    parser.add_argument(
        f"--{role}-url", metavar="URL", help="base URL including /v1 (default: OpenAI's)"
    )
    parser.add_argument(
        f"--{role}-key",
        metavar="VARIABLE",
        default="OPENAI_API_KEY",
        help="the environment variable with the API key",
    )
    parser.add_argument(f"--{role}-max-tokens", type=int, default=max_tokens, metavar="N")


def endpoint_of(options: Namespace, role: str) -> Endpoint | None:
    """Return the endpoint that the options name, or None."""
    values = {name: getattr(options, f"{role}_{name}") for name in ("url", "model", "key")}
    if not values["model"]:
        return None
    return Endpoint(
        values["url"],
        values["model"],
        key=os.environ.get(values["key"]) or "none",
        max_tokens=getattr(options, f"{role}_max_tokens"),
        timeout=options.timeout,
        retries=options.retries,
    )
