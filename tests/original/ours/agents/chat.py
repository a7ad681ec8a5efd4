from ..model import new_agent

route = True
websocket = True
agent = new_agent()
