"""How the agent reaches its server: gRPC over mutual TLS, dialled by the agent, never the other way.

The only place of the agent that knows generated messages (`towpath.v1`) and grpc. `client.GrpcServer` implements
`ports.Server`; `enrolment` speaks the server-authenticated enrolment port. Import the modules, not this package: the
resident agent loads `client` alone.
"""
