"""A network like Colosseum's on one machine, of namespaces: radio nodes, a server, routers and a firewall."""
