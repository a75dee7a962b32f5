"""What an order is and how it may move; imports nothing of ours."""
