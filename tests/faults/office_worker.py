"""`python -m tests.faults.office_worker SETTING DESCRIPTORS`: a worker of a server of the office."""

from __future__ import annotations

import json
import sys

from flue.serve.process import Stop
from flue.serve.running import serve_until_stopped
from flue.serve.site import Site
from flue.serve.worker import Channel
from tests.faults.office import Office, Setting


def main() -> int:
    """Serve until the supervisor, or its end, says to end."""
    channel = Channel.inherited(sys.argv[2])
    app = Office(Setting(**json.loads(sys.argv[1]))).app()

    async def serve(stop: Stop) -> None:
        async with Site() as site:
            site.service = await app.application.service()
            channel.answers([])
            await serve_until_stopped(site, app, listening, stop, trust_proxy=False)
        await app.application.drain()

    with channel.listening() as listening:
        return Stop(channel.descriptor).run(serve)


if __name__ == "__main__":
    sys.exit(main())
