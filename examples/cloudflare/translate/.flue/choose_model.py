from collections.abc import Mapping


def choose_model(env: Mapping[str, str]) -> str:
    """MODEL wins, then the first API key that is there; without either, the bundled offline model answers."""
    if env.get("MODEL"):
        return env["MODEL"]
    if env.get("ANTHROPIC_API_KEY"):
        return "anthropic/claude-sonnet-4-6"
    if env.get("OPENAI_API_KEY"):
        return "openai/gpt-5.5"
    return "demo/librarian"
