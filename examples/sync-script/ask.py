"""An agent in a script without a single await: python examples/sync-script/ask.py "My name is Alice." """

import os
import sys

from choose_model import choose_model
from flue import create_agent, open_context_sync

questions = sys.argv[1:] or ["My name is Alice.", "What is my name?"]
helper = create_agent(model=choose_model(os.environ))

with open_context_sync(id="ask", store="conversations.db") as ctx:
    session = ctx.init(helper).session()
    for question in questions:
        print(session.prompt(question, timeout=120).text)
