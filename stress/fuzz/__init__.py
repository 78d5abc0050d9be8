"""Sends a real server whatever a client may: no crash, no hang, no answer of another's."""
