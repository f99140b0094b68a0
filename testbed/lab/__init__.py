"""A network like Colosseum's on one machine: radio nodes, a server, routers and a firewall, of namespaces."""
