"""The user's class: the rules that it must follow, its hooks, and the event loop of asynchronous hooks."""
