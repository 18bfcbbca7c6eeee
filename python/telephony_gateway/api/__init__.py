"""The gateway's HTTP face: REST, WebSocket signalling, health, metrics and the page.

It translates and guards: bytes to typed values, values to calls of the one `Manager`, its answers and errors
back to bytes. It never decides anything about a call and never touches the store, the cache or the engine.
`rest.build_app` makes the aiohttp application from a `context.Context`; `server.HttpRunner` runs it with this
gateway's limits.
"""
