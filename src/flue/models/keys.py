"""API keys and other values that a provider takes from the environment.

The environment is always the mapping an application passed (process environment, `.env`, Worker bindings), never
`os.environ`. Variable names: those of the providers' own libraries and documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flue.errors import ModelSetupError

# The first one set wins; the last one is the one to recommend.
ENV_NAMES: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY"),
    "azure-openai-responses": ("AZURE_OPENAI_API_KEY",),
    "cloudflare-ai-gateway": ("CLOUDFLARE_API_KEY",),
    "cloudflare-workers-ai": ("CLOUDFLARE_API_KEY",),
    "github-copilot": ("COPILOT_GITHUB_TOKEN",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "huggingface": ("HF_TOKEN",),
    "kimi-coding": ("KIMI_API_KEY",),
    "moonshotai": ("MOONSHOT_API_KEY",),
    "moonshotai-cn": ("MOONSHOT_API_KEY",),
    "opencode-go": ("OPENCODE_API_KEY",),
    "vercel-ai-gateway": ("AI_GATEWAY_API_KEY",),
}
# The providers' own libraries read these.
BASE_URL_VARIABLES: Mapping[str, str] = {"anthropic": "ANTHROPIC_BASE_URL", "openai": "OPENAI_BASE_URL"}
PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")


def env_names(provider: str) -> tuple[str, ...]:
    """Return the variables that may hold a provider's key; by default one named after its id."""
    return ENV_NAMES.get(provider) or (re.sub(r"[^A-Z0-9]+", "_", provider.upper()) + "_API_KEY",)


def key_from_env(provider: str, env: Mapping[str, Any]) -> str | None:
    """Return a provider's key from the environment, or None. Blank values count as unset."""
    return next((value for name in env_names(provider) if (value := _text(env, name))), None)


def missing_key(provider: str) -> ModelSetupError:
    """Return the error for a provider without a key; it names the variable to set."""
    name = env_names(provider)[-1]
    return ModelSetupError(
        f"No API key for provider: {provider}.",
        code="missing_api_key",
        hint=f"Set {name} in the environment or in .env, or call configure_provider({provider!r}, api_key=...).",
    )


def base_url_from_env(provider: str, env: Mapping[str, Any]) -> str:
    """Return where the environment says that a provider is, "" when it does not."""
    name = BASE_URL_VARIABLES.get(provider)
    return _text(env, name) if name else ""


def fill_base_url(base_url: str, provider: str, env: Mapping[str, Any]) -> str:
    """Return the base URL with `{NAME}` placeholders taken from the environment.

    Raises `ModelSetupError` (code `missing_provider_setting`) that names the variables without a value.
    """
    names = PLACEHOLDER.findall(base_url)
    missing = [name for name in names if not _text(env, name)]
    if missing:
        raise ModelSetupError(
            f"The address of provider {provider!r} needs {' and '.join(missing)}.",
            code="missing_provider_setting",
            hint=f"Set {' and '.join(missing)} in the environment or in .env, "
            f"or call configure_provider({provider!r}, base_url=...).",
        )
    return PLACEHOLDER.sub(lambda match: _text(env, match[1]), base_url)


def _text(env: Mapping[str, Any], name: str) -> str:
    value = env.get(name)
    return value.strip() if isinstance(value, str) else ""
