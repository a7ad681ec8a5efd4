from ..model import closed, new_agent

route = closed
websocket = closed
agent = new_agent()
