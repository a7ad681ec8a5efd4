from ..model import new_agent

agent = new_agent()
