from starlette.applications import Starlette
from starlette.routing import Mount

import flue

app = Starlette(routes=[Mount("/api", flue.asgi()), Mount("/admin", flue.admin())])
