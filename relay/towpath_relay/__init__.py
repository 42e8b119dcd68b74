"""The relay: carries bytes between the agents of one site and their server, and is trusted with nothing.

    hello    which name does a TLS client ask for: pure
    front    one port for both: what asks for the server is passed on as it is, what asks for the relay is answered here
    service  the relay's own gRPC: objects, for hosts of the fleet
    flights  one fetch from the server for however many hosts want the same object
    cache    objects in their carried form, by digest, below a limit of bytes
    uplink   how objects are fetched: as the host on whose machine the relay runs

It stands on the agent's transport, as one of the site's hosts; nothing imports it.
"""
