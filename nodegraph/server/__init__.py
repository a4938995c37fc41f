"""The server: ComfyUI's HTTP and websocket protocol and more, over a durable queue and supervised workers.

`create_app` (app.py) makes the application, `nodegraph serve` (command.py) runs it. The process imports no torch,
and what it does not need to answer its first request is imported by the functions that need it.
"""
