"""The user's class: its rules, its hooks bound to an instance, and the event loop of asynchronous ones."""
