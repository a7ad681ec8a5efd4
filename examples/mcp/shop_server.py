"""An MCP server with the orders of a bicycle shop, over stdio. Made with the official SDK; it knows nothing of Flue."""

from mcp.server import MCPServer

server = MCPServer("shop", instructions="Order numbers begin with A-.")
ORDERS = {"A-1042": "shipped on Tuesday", "A-1043": "being packed"}


@server.tool()
def order_status(order_id: str) -> str:
    """Say where an order is."""
    return f"Order {order_id}: {ORDERS.get(order_id, 'unknown number')}."


if __name__ == "__main__":
    server.run()
