"""Talks to the chat: python talk.py http://localhost:3583 TOKEN CUSTOMER, one prompt a line.

Needs flue-agents with its extra `sdk`.
"""

import asyncio
import sys
from urllib.parse import quote

from flue.sdk import AsyncClient, SocketTarget


async def main(url: str, token: str, customer: str) -> None:
    def with_token(address: str, target: SocketTarget) -> str:
        return f"{address}?token={quote(token)}"

    async with AsyncClient(base_url=f"{url}/api", websocket_url=with_token) as client:
        chat = client.agents.connect("chat", customer)
        await chat.ready()
        for line in sys.stdin:
            print((await chat.prompt(line.strip())).text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
